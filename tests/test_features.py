"""The features of scikit-learn methods: same cases and gaps, no leak, saved without pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from bench.data import Attribute, Availability, Dataset, Modality, PictureArray
from bench.encoders.features import FeatureExtractor
from bench.method import Features
from tests.toy_cases import dataset, everything, gaps_of_everything, with_planted_content

ALL = np.arange(6)
TRAIN = np.arange(4)


def features_of(data: Dataset, gaps: Availability, rows: np.ndarray = ALL) -> Features:
    return FeatureExtractor.fit(data, TRAIN, gaps).transform(data, rows, gaps)


def pictures(pixels: np.ndarray, channels: int = 1) -> Dataset:
    view = Modality("view", "image", channels=channels)
    return dataset((view,), {"view": PictureArray(pixels)}, len(pixels))


def test_a_table_gives_standardised_numbers_and_one_hot_codes_nan_where_absent() -> None:
    attributes = (Attribute("sex", "categorical"), Attribute("age"))
    frame = pd.DataFrame(
        {"sex": ["m", "f", None, "f", "x", "m"], "age": [1.0, 3.0, 5.0, np.nan, 3.0, np.nan]}
    )
    data = dataset((Modality("clinical", "table", attributes),), {"clinical": frame})
    features = features_of(data, data.natural())
    nan, std = np.nan, np.sqrt(8 / 3)
    expected = [
        [0, 1, -2 / std],
        [1, 0, 0],
        [nan, nan, 2 / std],
        [1, 0, nan],
        [0, 0, 0],  # a value never seen in training
        [0, 1, nan],
    ]
    np.testing.assert_allclose(features.values[0], expected, rtol=1e-6)
    assert features.column_attribute[0].tolist() == [0, 0, 1]
    np.testing.assert_array_equal(features.attributes[0], frame.notna())


def test_what_is_absent_is_nan_at_both_levels() -> None:
    data, gaps = everything(), gaps_of_everything()
    features = features_of(data, gaps)
    np.testing.assert_array_equal(features.available, gaps.modality)
    cells = gaps.attributes[0] & gaps.modality[:, :1]
    np.testing.assert_array_equal(features.attributes[0], cells)
    columns = features.column_attribute[0]
    np.testing.assert_array_equal(~np.isnan(features.values[0]), cells[:, columns])
    for m in (1, 2):
        there = ~np.isnan(features.values[m])
        np.testing.assert_array_equal(there, gaps.modality[:, [m]].repeat(there.shape[1], 1))


@pytest.mark.parametrize("number", [np.nan, 1e6])
def test_content_of_what_is_absent_has_no_influence_on_features(number: float) -> None:
    data, gaps = everything(), gaps_of_everything()
    planted = with_planted_content(data, gaps, number)
    for mine, yours in zip(
        features_of(data, gaps).values, features_of(planted, gaps).values, strict=True
    ):
        np.testing.assert_array_equal(mine, yours)


def test_pictures_give_the_standardised_principal_components_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 32, 32, 1), dtype=np.uint8)
    data = pictures(pixels)
    extractor = FeatureExtractor.fit(data, np.arange(50), data.natural())
    found = extractor.transform(data, np.arange(60), data.natural()).values[0]
    grey = pixels.reshape(60, -1) / 255.0
    pca = PCA(40, svd_solver="full").fit(grey[:50])
    scores = pca.transform(grey)
    assert found.shape == (60, 40)
    np.testing.assert_allclose(np.abs(found), np.abs(scores / scores[:50].std(0)), atol=1e-4)


def test_there_are_fewer_components_when_there_are_fewer_pictures() -> None:
    rng = np.random.default_rng(0)
    data = pictures(rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8))
    values = features_of(data, data.natural()).values[0]
    assert values.shape == (6, 3)  # four training pictures span three directions
    np.testing.assert_allclose(values[:4].std(0), 1.0)
    np.testing.assert_allclose(values[:4].mean(0), 0.0, atol=1e-9)


@pytest.mark.parametrize("n_present", [0, 1, 4])
def test_pictures_that_do_not_differ_give_no_component(n_present: int) -> None:
    data = pictures(np.full((6, 8, 8, 1), 9, np.uint8))
    there = np.arange(6)[:, None] < n_present
    assert features_of(data, Availability(there)).values[0].shape == (6, 0)


def test_colour_is_read_as_the_eye_weighs_it() -> None:
    pixels = np.zeros((6, 32, 32, 3), np.uint8)
    for row, channel in enumerate([0, 1, 2, 0, 1, 2]):
        pixels[row, :, :, channel] = 255
    data = pictures(pixels, channels=3)
    extractor = FeatureExtractor.fit(data, np.arange(3), data.natural())
    np.testing.assert_allclose(extractor.components[0].mean, 1 / 3, rtol=1e-6)  # weights sum to 1
    scores = extractor.transform(data, ALL, data.natural()).values[0][:, 0]
    grey = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(
        np.abs(scores[:3]), np.abs(grey - grey.mean()) / grey.std(), rtol=1e-5
    )


def test_vectors_are_standardised() -> None:
    values = np.array([[1.0], [3.0], [3.0], [5.0], [7.0], [3.0]], np.float32)
    data = dataset((Modality("genes", "vector", width=1),), {"genes": values})
    features = features_of(data, data.natural())
    np.testing.assert_allclose(features.values[0][:, 0], (values[:, 0] - 3) / np.sqrt(2), rtol=1e-6)
    assert features.column_attribute[0].tolist() == [-1]


def test_saved_features_are_the_same_without_pickles(tmp_path: Path) -> None:
    data, gaps = everything(), gaps_of_everything()
    extractor = FeatureExtractor.fit(data, TRAIN, gaps)
    state: dict[str, Any] = extractor.state()
    np.savez(tmp_path / "state.npz", **state)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as stored:
        restored = FeatureExtractor.from_state(dict(stored))
    for mine, yours in zip(
        extractor.transform(data, ALL, gaps).values,
        restored.transform(data, ALL, gaps).values,
        strict=True,
    ):
        np.testing.assert_array_equal(mine, yours)


def test_features_of_no_case_keep_their_columns() -> None:
    data, gaps = everything(), gaps_of_everything()
    none = features_of(data, gaps, np.zeros(0, np.int64))
    some = features_of(data, gaps)
    for mine, yours in zip(none.values, some.values, strict=True):
        assert mine.shape == (0, yours.shape[1])


def test_the_test_part_has_no_influence_on_the_components() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    other = pixels.copy()
    other[4:] = 0
    one, two = (
        FeatureExtractor.fit(each, TRAIN, each.natural())
        for each in (pictures(pixels), pictures(other))
    )
    np.testing.assert_array_equal(one.components[0].axes, two.components[0].axes)
