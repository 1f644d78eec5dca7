"""What is fitted on the training part, and what the gaps blank."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench.data import (
    Attribute,
    AttributeKind,
    Availability,
    Dataset,
    ImageFiles,
    Modality,
    PictureArray,
)
from bench.encoders import Inputs, Preprocessor, fit_preprocessor
from bench.encoders.picture_cache import PictureCache, read_pictures
from bench.encoders.pixels import PictureStatistics
from bench.encoders.preprocessing import TableStatistics, VectorStatistics
from bench.errors import BadData
from tests.toy_cases import dataset, everything, gaps_of_everything, with_planted_content

ALL = np.arange(6)
TRAIN = np.arange(4)


def table(attribute: Attribute, cells: list[object]) -> Dataset:
    frame = pd.DataFrame({attribute.name: cells})
    return dataset((Modality("clinical", "table", (attribute,)),), {"clinical": frame}, len(cells))


def vectors(values: np.ndarray) -> Dataset:
    return dataset((Modality("genes", "vector", width=2),), {"genes": values}, len(values))


def tensors(inputs: Inputs) -> Any:
    """Return the content without the question which tensors are None."""
    return inputs.content


def content_of(fitted: Preprocessor, data: Dataset, gaps: Availability) -> Any:
    """Return the tensors of the only modality of all cases."""
    return tensors(fitted.inputs(data, np.arange(data.n_cases), gaps))[0]


@dataclass
class Recorder:
    """Pictures that note which rows were read; row r is filled with r."""

    n_cases: int
    rows: list[int] = field(default_factory=list)

    def read(self, rows: np.ndarray) -> np.ndarray:
        self.rows += rows.tolist()
        return np.broadcast_to(rows.astype(np.uint8)[:, None, None, None], (len(rows), 2, 2, 1))


def test_numbers_are_standardised_by_the_observed_cells_of_the_training_part() -> None:
    data = table(Attribute("age"), [1.0, 3.0, np.nan, 5.0, 100.0, 3.0])
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    content = content_of(fitted, data, data.natural())
    std = np.sqrt(8 / 3)
    expected = [-2 / std, 0.0, np.nan, 2 / std, 97 / std, 0.0]
    np.testing.assert_allclose(content.numbers.numpy()[:, 0], expected, rtol=1e-6)


def test_quartiles_are_those_of_the_training_part_and_hold_their_upper_edge() -> None:
    data = table(Attribute("age"), [0.0, 1.0, 2.0, 3.0, 4.0, -9.0, 1.5, 3.01, 99.0, np.nan])
    fitted = fit_preprocessor(data, np.arange(5), data.natural())
    assert fitted.of(0, TableStatistics).attributes[0].model_dump()["edges"] == (1.0, 2.0, 3.0)
    codes = content_of(fitted, data, data.natural()).codes
    assert codes[:, 0].tolist() == [0, 0, 1, 2, 3, 0, 1, 3, 3, -1]


@pytest.mark.parametrize(
    "cells", [[0.1] * 6, [np.nan] * 4 + [7.0, 8.0], [True] * 6, [0.0, 1e-300, 2e-300] * 2]
)
def test_columns_without_spread_stay_finite(cells: list[object]) -> None:
    data = table(Attribute("age"), cells)
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    numbers = content_of(fitted, data, data.natural()).numbers
    observed = data.natural().attributes[0]
    assert fitted.of(0, TableStatistics).attributes[0].model_dump()["std"] == 1.0
    assert numbers.isfinite().numpy()[observed].all()


def test_a_value_never_seen_in_training_gets_code_0_and_stays_observed() -> None:
    data = table(Attribute("site", "categorical"), ["b", "a", None, "b", "c", "a"])
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    content = content_of(fitted, data, data.natural())
    assert fitted.of(0, TableStatistics).n_codes == (3,)
    assert content.codes[:, 0].tolist() == [2, 1, -1, 2, 0, 1]
    np.testing.assert_array_equal(content.numbers[:, 0], [0, 0, np.nan, 0, 0, 0])


def test_a_declared_vocabulary_keeps_its_order_and_what_training_lacks_gets_code_0() -> None:
    grades = Attribute("grade", "categorical", categories=("low", "mid", "high"))
    data = table(grades, ["high", "low", "low", "high", "mid", "worse"])
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    assert fitted.of(0, TableStatistics).n_codes == (4,)
    codes = content_of(fitted, data, data.natural()).codes
    assert codes[:, 0].tolist() == [3, 1, 1, 3, 0, 0]


def test_whole_numbers_name_the_same_category_with_and_without_gaps_in_their_column() -> None:
    stage = Attribute("stage", "categorical", categories=("1", "2"))
    data = table(stage, [1.0, 2.0, np.nan, 1.0, 2.0, 1.0])
    codes = content_of(fit_preprocessor(data, TRAIN, data.natural()), data, data.natural()).codes
    assert codes[:, 0].tolist() == [1, 2, -1, 1, 2, 1]


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_categories_are_read_from_any_column_type(dtype: Any) -> None:
    data = table(Attribute("site", "categorical"), ["b", "a", None, "b", "c", "a"])
    frame = data.table("clinical").astype(dtype)
    data = replace(data, content={"clinical": frame})
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    codes = content_of(fitted, data, data.natural()).codes
    assert codes[:, 0].tolist() == [2, 1, -1, 2, 0, 1]


@pytest.mark.parametrize("cell", ["old", np.inf])
def test_a_cell_that_is_no_number_is_named(cell: object) -> None:
    data = table(Attribute("age"), [1.0, 3.0, cell, 5.0, 100.0, 3.0])
    with pytest.raises(BadData, match=rf"'age' of 'clinical' is numeric and holds '{cell}'"):
        fit_preprocessor(data, TRAIN, data.natural())


@pytest.mark.parametrize("kind", ["numeric", "categorical"])
def test_an_empty_cell_that_is_called_observed_is_refused(kind: AttributeKind) -> None:
    data = table(Attribute("age", kind), [1.0, np.nan, 2.0, 5.0, 100.0, 3.0])
    wrong = Availability(np.ones((6, 1), bool), {0: np.ones((6, 1), bool)})
    with pytest.raises(BadData, match="holds nothing in an observed cell"):
        fit_preprocessor(data, TRAIN, wrong)


def test_vectors_are_standardised_per_column_over_the_training_rows_that_have_one() -> None:
    data = vectors(np.array([[1, 5], [3, 5], [99, 99], [5, 5], [3, 7], [3, 5]], np.float32))
    gaps = Availability(np.array([1, 1, 0, 1, 1, 0], bool)[:, None])
    fitted = fit_preprocessor(data, TRAIN, gaps)
    assert fitted.of(0, VectorStatistics).mean == (3.0, 5.0)
    vector = content_of(fitted, data, gaps).vector
    std = np.sqrt(8 / 3)
    expected = [[-2 / std, 0], [0, 0], [0, 0], [2 / std, 0], [0, 2], [0, 0]]
    np.testing.assert_allclose(vector.numpy(), expected, atol=1e-6)


def test_nan_inside_a_present_vector_is_refused_and_the_case_named() -> None:
    values = np.ones((6, 2), np.float32)
    values[4, 1] = np.nan
    data = vectors(values)
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    with pytest.raises(BadData, match=r"1 present vectors of 'genes'.* case 'case4'"):
        fitted.inputs(data, ALL, data.natural())


def test_vectors_of_another_width_are_refused() -> None:
    data = vectors(np.ones((6, 3), np.float32))
    with pytest.raises(BadData, match=r"must be \(n, 2\), got \(4, 3\)"):
        fit_preprocessor(data, TRAIN, data.natural())


def test_modalities_that_share_an_encoder_share_its_channel_statistics() -> None:
    first = np.zeros((6, 1, 2, 1), np.uint8)
    second = np.full((6, 1, 2, 1), 255, np.uint8)
    modalities = (Modality("a", "image", encoder="view"), Modality("b", "image", encoder="view"))
    data = dataset(modalities, {"a": PictureArray(first), "b": PictureArray(second)})
    gaps = np.array([[1, 0], [1, 0], [1, 1], [0, 0], [1, 1], [1, 1]], bool)
    fitted = fit_preprocessor(data, TRAIN, Availability(gaps))
    for m in (0, 1):  # three black pictures and a white one
        assert fitted.of(m, PictureStatistics).mean == (0.25,)
        assert fitted.of(m, PictureStatistics).std == pytest.approx((np.sqrt(3) / 4,))


def test_pictures_without_spread_or_without_any_case_are_left_undivided() -> None:
    pixels = PictureArray(np.full((6, 2, 2, 1), 51, np.uint8))
    data = dataset((Modality("view", "image"),), {"view": pixels})
    fitted = fit_preprocessor(data, TRAIN, data.natural()).of(0, PictureStatistics)
    assert fitted.mean == pytest.approx((0.2,))
    assert fitted.std == (1.0,)
    nobody = Availability(np.zeros((6, 1), bool))
    fitted = fit_preprocessor(data, TRAIN, nobody).of(0, PictureStatistics)
    assert (fitted.mean, fitted.std, fitted.shape) == ((0.0,), (1.0,), (2, 2, 1))


def assert_equal_inputs(one: Inputs, other: Inputs) -> None:
    assert torch.equal(one.observed, other.observed)
    for mine, yours in zip(one.content, other.content, strict=True):
        for name in ("numbers", "codes", "vector", "pictures"):
            a, b = getattr(mine, name), getattr(yours, name)
            assert (a is None) == (b is None)
            if a is not None:
                np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e6])
def test_content_of_what_is_not_observed_has_no_influence(number: float) -> None:
    data, gaps = everything(), gaps_of_everything()
    planted = with_planted_content(data, gaps, number)
    fitted = fit_preprocessor(data, TRAIN, gaps)
    assert fit_preprocessor(planted, TRAIN, gaps) == fitted
    assert_equal_inputs(fitted.inputs(data, ALL, gaps), fitted.inputs(planted, ALL, gaps))


def test_the_test_part_has_no_influence_on_what_is_fitted() -> None:
    data, other = everything(0), everything(1)
    tables = [data.table("clinical").iloc[:4], other.table("clinical").iloc[4:]]
    content: Any = data.content
    elsewhere: Any = other.content
    pixels = [content["view"].pixels[:4], elsewhere["view"].pixels[4:]]
    mixed = {
        "clinical": pd.concat(tables),
        "genes": np.concatenate([content["genes"][:4], elsewhere["genes"][4:]]),
        "view": PictureArray(np.concatenate(pixels)),
    }
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    assert fit_preprocessor(replace(data, content=mixed), TRAIN, data.natural()) == fitted


def test_what_is_not_observed_is_blank_at_both_levels() -> None:
    data, gaps = everything(), gaps_of_everything()
    inputs = fit_preprocessor(data, TRAIN, gaps).inputs(data, ALL, gaps)
    clinical, genes, view = tensors(inputs)
    cells = torch.from_numpy(gaps.attributes[0] & gaps.modality[:, :1])
    assert torch.equal(inputs.observed, torch.from_numpy(gaps.modality))
    assert torch.equal(clinical.codes >= 0, cells)
    assert torch.equal(~clinical.numbers.isnan(), cells)
    assert torch.equal(genes.vector.any(1), inputs.observed[:, 1])
    assert torch.equal(view.pictures.flatten(1).any(1), inputs.observed[:, 2])


def test_absent_pictures_are_never_read() -> None:
    pictures = Recorder(6)
    data = dataset((Modality("view", "image"),), {"view": pictures})
    data = replace(data, fingerprint="absent pictures")
    gaps = Availability(np.array([1, 0, 1, 0, 1, 0], bool)[:, None])
    inputs = fit_preprocessor(data, TRAIN, gaps).inputs(data, ALL, gaps)
    assert sorted(pictures.rows) == [0, 2, 4]
    assert tensors(inputs)[0].pictures[:, 0, 0, 0].tolist() == [0, 0, 2, 0, 4, 0]


def test_a_picture_is_decoded_once_for_all_folds() -> None:
    cache, pictures = PictureCache(), Recorder(6)
    view = Modality("view", "image")
    data = dataset((view,), {"view": pictures})
    for rows in ([0, 1, 2], [2, 3, 2, 0], [3, 1]):
        pixels = read_pictures(data, view, np.array(rows), cache)
        assert pixels[:, 0, 0, 0].tolist() == rows
    assert cache.n_decoded == 4
    assert sorted(pictures.rows) == [0, 1, 2, 3]
    changed = replace(data, fingerprint="other files")
    read_pictures(changed, view, np.array([0]), cache)
    assert cache.n_decoded == 5


def test_the_same_files_loaded_again_are_not_decoded_again(tmp_path: Path) -> None:
    cache, rows = PictureCache(), np.array([1, 0])
    view = Modality("view", "image")
    paths = tuple(tmp_path / f"{i}.png" for i in range(6))
    for i, path in enumerate(paths):
        Image.new("L", (4, 4), i).save(path)
    for size, n_decoded in ((8, 2), (8, 2), (9, 4)):
        data = dataset((view,), {"view": ImageFiles(paths, size)})
        assert read_pictures(data, view, rows, cache)[:, 0, 0, 0].tolist() == [1, 0]
        assert cache.n_decoded == n_decoded


def test_other_pictures_of_the_same_release_are_not_confused() -> None:
    cache, rows = PictureCache(), np.array([1])
    for _ in range(2):
        view = Modality("view", "image")
        read_pictures(dataset((view,), {"view": Recorder(6)}), view, rows, cache)
    assert cache.n_decoded == 2


def test_the_picture_cache_forgets_the_longest_unused_when_it_is_full() -> None:
    cache = PictureCache(max_bytes=2 * 6 * 4)  # two data sets of six pictures of four bytes
    rows = np.array([0])
    pictures = Recorder(6)
    for key in "abac":
        cache.read((key,), pictures, rows, 6)
    assert cache.n_decoded == 3
    cache.read(("a",), pictures, rows, 6)
    assert cache.n_decoded == 3
    cache.read(("b",), pictures, rows, 6)
    assert cache.n_decoded == 4


def test_pictures_that_exceed_the_cache_are_decoded_each_time() -> None:
    cache = PictureCache(max_bytes=23)
    for _ in range(2):
        assert cache.read(("a",), Recorder(6), np.array([5]), 6)[0, 0, 0, 0] == 5
    assert cache.n_decoded == 2


def test_pictures_of_another_type_or_channel_are_refused() -> None:
    view = Modality("view", "image", channels=3)
    for pixels in (np.zeros((6, 2, 2, 1), np.uint8), np.zeros((6, 2, 2, 3), np.float32)):
        data = dataset((view,), {"view": PictureArray(pixels)})
        with pytest.raises(BadData, match=r"must be uint8 \(n, H, W, 3\)"):
            fit_preprocessor(data, TRAIN, data.natural())


def test_the_state_goes_through_json_and_gives_the_same_inputs() -> None:
    data, gaps = everything(), gaps_of_everything()
    fitted = fit_preprocessor(data, TRAIN, gaps)
    text = json.dumps(fitted.state(), allow_nan=False)
    restored = Preprocessor.from_state(json.loads(text))
    assert restored == fitted
    assert_equal_inputs(restored.inputs(data, ALL, gaps), fitted.inputs(data, ALL, gaps))


def test_data_with_other_modalities_or_picture_sizes_are_refused() -> None:
    data = everything()
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    fewer = replace(data, modalities=data.modalities[:2])
    with pytest.raises(BadData, match="fitted on the modalities clinical, genes, view"):
        fitted.inputs(fewer, ALL, data.natural())
    larger = PictureArray(np.zeros((6, 8, 8, 1), np.uint8))
    resized = replace(data, content={**data.content, "view": larger})
    with pytest.raises(BadData, match=r"are \(8, 8, 1\), the run was trained on \(4, 4, 1\)"):
        fitted.inputs(resized, ALL, data.natural())


@pytest.mark.parametrize(
    "other",
    [
        Modality("b", "vector", width=2, encoder="x"),
        Modality("b", "image", channels=3, encoder="x"),
    ],
)
def test_only_pictures_with_the_same_channels_share_an_encoder(other: Modality) -> None:
    data = dataset((Modality("a", "image", encoder="x"), other), {})
    with pytest.raises(BadData, match="encoder 'x' is shared by a"):
        fit_preprocessor(data, TRAIN, Availability(np.ones((6, 2), bool)))


def test_a_part_without_cases_gives_empty_inputs() -> None:
    data = everything()
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    inputs = fitted.inputs(data, np.zeros(0, np.int64), data.natural())
    assert inputs.observed.shape == (0, 3)
    assert tensors(inputs)[0].codes.shape == (0, 2)
    assert tensors(inputs)[2].pictures.shape == (0, 4, 4, 1)


def test_restricting_inputs_is_the_same_as_a_gap() -> None:
    data, gaps = everything(), gaps_of_everything()
    fitted = fit_preprocessor(data, TRAIN, data.natural())
    kept = torch.from_numpy(gaps.modality)
    restricted = fitted.inputs(data, ALL, data.natural()).restrict(kept)
    whole_cells = Availability(gaps.modality, {0: np.repeat(gaps.modality[:, :1], 2, axis=1)})
    assert_equal_inputs(restricted, fitted.inputs(data, ALL, whole_cells))
    assert_equal_inputs(restricted.restrict(torch.ones_like(kept)), restricted)


def test_rows_of_inputs_are_the_inputs_of_those_rows() -> None:
    data, gaps = everything(), gaps_of_everything()
    fitted = fit_preprocessor(data, TRAIN, gaps)
    chosen = np.array([5, 0, 3])
    mine = fitted.inputs(data, ALL, gaps).to("cpu").rows(torch.from_numpy(chosen))
    assert_equal_inputs(mine, fitted.inputs(data, chosen, gaps))
