from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.data import Dataset
from bench.datasets.breast_tcga import PLUGIN, WIDTHS, BreastTcga
from bench.errors import BadData
from bench.spec import Frozen, Recipe
from bench.splits import make_split

N_TRAIN, N_TEST = 18, 6


def release(folder: Path, **changed: np.ndarray) -> Path:
    """Write a small file in the known layout: proteins are absent in the test part."""
    folder.mkdir(exist_ok=True)
    n_cases = N_TRAIN + N_TEST
    arrays: dict[str, np.ndarray] = {
        name: np.full((n_cases, width), float(width), np.float32) for name, width in WIDTHS.items()
    }
    arrays["protein"][N_TRAIN:] = np.nan
    arrays["y"] = np.arange(n_cases) % 3
    arrays["classes"] = np.array(["Basal", "Her2", "LumA"])
    arrays["split"] = np.array(["train"] * N_TRAIN + ["test"] * N_TEST)
    arrays["has_protein"] = np.arange(n_cases) < N_TRAIN
    arrays |= changed
    np.savez(folder / "data.npz", **arrays)  # type: ignore[arg-type]
    return folder


def tcga(root: Path) -> Dataset:
    return BreastTcga().load(Frozen(), root)


def changed_cell(name: str, row: int, value: float) -> dict[str, np.ndarray]:
    values = np.ones((N_TRAIN + N_TEST, WIDTHS[name]), np.float32)
    values[row, 1] = value
    return {name: values}


def test_what_it_declares_fits_the_recipe() -> None:
    assert PLUGIN is BreastTcga
    assert BreastTcga.name == "breast-tcga"
    assert Recipe(**BreastTcga.recipe_defaults).epochs == 40
    assert BreastTcga.default_folds == 1


@pytest.mark.parametrize("name", ["breast-tcga", "breast_tcga", "."])
def test_the_folder_may_be_named_either_way(tmp_path: Path, name: str) -> None:
    release(tmp_path / name)
    assert tcga(tmp_path).n_cases == N_TRAIN + N_TEST


def test_arrays_become_three_vectors_in_official_parts(tmp_path: Path) -> None:
    data = tcga(release(tmp_path))
    assert data.modality_names == ("mrna", "mirna", "protein")
    assert [modality.width for modality in data.modalities] == [200, 184, 142]
    assert data.classes == ("Basal", "Her2", "LumA")
    assert data.label[:4].tolist() == [0, 1, 2, 0]
    split = make_split(data, 0, 1, 0, 0.2)
    assert split.test.tolist() == list(range(N_TRAIN, N_TRAIN + N_TEST))
    assert data.files == (tmp_path / "data.npz",)


def test_proteins_are_absent_in_the_whole_test_part(tmp_path: Path) -> None:
    data = tcga(release(tmp_path))
    assert data.available[:, :2].all()
    assert data.available[:, 2].tolist() == [True] * N_TRAIN + [False] * N_TEST


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (changed_cell("mrna", 3, np.nan), "mrna must be finite, or NaN as a whole row"),
        (changed_cell("protein", 3, np.inf), "protein must be finite"),
        ({"mirna": np.ones((24, 183))}, r"mirna has shape \(24, 183\), not \(-1, 184\)"),
        ({"mirna": np.ones((23, 184))}, r"the arrays have \[23, 24\] cases"),
        ({"y": np.full(24, 3)}, "y must be 0 to 2 for Basal, Her2, LumA"),
        ({"classes": np.array(["Her2", "Basal", "LumA"])}, "y must be 0 to 2"),
        ({"split": np.array(["train"] * 23 + ["other"])}, "split must be train or test"),
        ({"split": np.array([None] * 24)}, "no readable .npz"),
    ],
)
def test_arrays_that_break_the_promise_are_named(
    tmp_path: Path, changed: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(BadData, match=rf"data.npz: {message}"):
        tcga(release(tmp_path, **changed))


def test_the_reference_data_have_the_known_counts(shared: Path) -> None:
    root = shared / "data" / "breast_tcga"
    if not root.is_dir():
        pytest.skip("the TCGA breast data are not in the reference data")
    data = tcga(root)
    parts = data.parts
    assert parts is not None
    assert [int((parts == part).sum()) for part in ("train", "test")] == [150, 70]
    assert (~data.available[parts == "test"]).sum(0).tolist() == [0, 0, 70]
    assert data.available[parts == "train"].all()
    assert np.bincount(data.label).tolist() == [66, 44, 110]
