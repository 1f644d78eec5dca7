from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.data import Dataset
from bench.datasets.mfeat import PLUGIN, WIDTHS, Mfeat
from bench.errors import BadData, BadRequest
from bench.spec import Frozen, Recipe

N_CASES = 2000


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write the files of the release: as many numbers per line as they have, all the same line."""
    folder = tmp_path / "mfeat"
    folder.mkdir()
    for view, width in WIDTHS.items():
        line = "  " + "   ".join(["0.5", *["-1e-3"] * (width - 1)])
        (folder / f"mfeat-{view}").write_text("\n".join([line] * N_CASES) + "\n")
    return folder


def stacked(folder: Path, **changed: np.ndarray) -> Path:
    """Write the release as one file, cases in another order than by digit."""
    arrays: dict[str, np.ndarray] = {"y": np.arange(N_CASES) % 10}
    for view, width in WIDTHS.items():
        arrays[view] = np.ones((N_CASES, width), np.float32)
    np.savez(folder / "data.npz", **(arrays | changed))  # type: ignore[arg-type]
    return folder


def mfeat(root: Path | None) -> Dataset:
    return Mfeat().load(Frozen(), root)


def test_what_it_declares_fits_the_recipe() -> None:
    assert PLUGIN is Mfeat
    assert Recipe(**Mfeat.recipe_defaults).epochs == 15


def test_files_of_the_release_become_six_vectors_of_ordered_digits(release: Path) -> None:
    data = mfeat(release.parent)
    assert data.modality_names == ("fou", "fac", "kar", "pix", "zer", "mor")
    assert [modality.width for modality in data.modalities] == [76, 216, 64, 240, 47, 6]
    assert data.label.tolist() == [digit for digit in range(10) for _ in range(200)]
    assert data.available.all()
    values = data.content["mor"]
    assert isinstance(values, np.ndarray)
    assert values.dtype == np.float32
    assert values[1999].tolist() == pytest.approx([0.5, *[-1e-3] * 5])
    assert len(data.files) == 6


def test_the_stacked_file_brings_its_own_labels(tmp_path: Path) -> None:
    data = mfeat(stacked(tmp_path))
    assert data.label[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert data.modality_names == tuple(WIDTHS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3 4 5", "line 1001: 5 numbers, not 6"),
        ("1 2 3 4 5 x", "line 1001: could not convert string to float: 'x'"),
        ("1 2 3 nan 5 6", "line 1001: 'nan' is no finite number"),
        ("", "1999 lines with numbers, not 2000"),
    ],
)
def test_lines_that_break_the_promise_are_named(release: Path, line: str, message: str) -> None:
    path = release / "mfeat-mor"
    lines = path.read_text().splitlines()
    lines[1000] = line
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadData, match=f"mfeat-mor[:,] {message}"):
        mfeat(release)


def test_stacked_arrays_of_another_shape_or_label_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"kar has shape \(1999, 64\), not \(2000, 64\)"):
        mfeat(stacked(tmp_path, kar=np.ones((1999, 64))))
    with pytest.raises(BadData, match="y holds other numbers than 0 to 9"):
        mfeat(stacked(tmp_path, y=np.full(N_CASES, 10)))


def test_missing_files_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mfeat-fou").touch()
    with pytest.raises(BadData, match=r"5 of 6 needed files .*mfeat-fac, mfeat-kar"):
        mfeat(tmp_path)
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    with pytest.raises(BadRequest, match=r"mfeat-mor or data.npz"):
        mfeat(None)


def test_the_reference_data_have_the_known_counts(shared: Path) -> None:
    root = shared / "data" / "mfeat"
    if not root.is_dir():
        pytest.skip("the multiple features are not in the reference data")
    assert np.bincount(mfeat(root).label).tolist() == [200] * 10
