from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.data import Dataset
from bench.datasets.heart import MODALITIES, PLUGIN, SITES, Heart
from bench.errors import BadData, BadRequest
from bench.spec import Frozen, Recipe
from bench.splits import make_split

HEADER = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,num,site"
RECORDS = {  # in the style of each hospital's file
    "cleveland": [
        "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0",
        "67.0,1.0,4.0,160.0,286.0,0.0,2.0,108.0,1.0,1.5,2.0,3.0,3.0,2",
    ],
    "hungarian": ["28,1,2,130,132,0,2,185,0,0,?,?,?,0", "29,0,3,120,243,?,0,160,0,-0.5,?,?,?,1"],
    "switzerland": ["32,1,1,95,0,?,0,127,0,.7,1,?,?,1", "34,1,4,?,0,?,?,?,?,?,?,?,?,3"],
    "va": ["63,1,4,0,260,0,1,112,1,3,2,?,-9,4"],
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write a small release in the layout of UCI: four files without a header."""
    folder = tmp_path / "heart"
    folder.mkdir()
    for site, lines in RECORDS.items():
        (folder / f"processed.{site}.data").write_text("\n".join(lines) + "\n")
    return folder


def stacked(folder: Path) -> Path:
    """Write the same records as one table, hospitals in another order, blank for ?."""
    folder.mkdir()
    lines = [
        f"{line.replace('?', '')},{site}" for site in reversed(SITES) for line in RECORDS[site]
    ]
    (folder / "heart.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return folder


def heart(root: Path | None) -> Dataset:
    return Heart().load(Frozen(), root)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_it_declares_fits_the_recipe() -> None:
    assert PLUGIN is Heart
    assert Recipe(**Heart.recipe_defaults).epochs == 30
    assert all("{value}" in a.template for m in MODALITIES for a in m.attributes)


def test_files_without_header_become_four_tables(release: Path) -> None:
    data = heart(release.parent)
    assert data.modality_names == ("history", "resting", "exercise", "imaging")
    assert data.cases.tolist() == [
        "cleveland-000",
        "cleveland-001",
        "hungarian-000",
        "hungarian-001",
        "switzerland-000",
        "switzerland-001",
        "va-000",
    ]
    assert data.table("history").iloc[0].tolist() == [63, "male", "typical angina"]
    first = [145, 233, "above 120 mg/dl", "left ventricular hypertrophy"]
    assert data.table("resting").iloc[0].tolist() == first
    assert data.table("exercise").iloc[0].tolist() == [150, "no", 2.3, "downsloping"]
    assert data.table("imaging").iloc[0].tolist() == [0, "fixed defect"]
    assert data.table("exercise")["oldpeak"].iloc[3] == -0.5


def test_any_stage_above_none_is_disease(release: Path) -> None:
    data = heart(release)
    assert data.classes == ("no disease", "disease")
    assert data.label.tolist() == [0, 1, 0, 1, 1, 1, 1]


def test_question_marks_and_impossible_zeros_are_absent(release: Path) -> None:
    data = heart(release)
    resting = data.table("resting")
    assert resting["chol"].isna().tolist() == [False] * 4 + [True] * 2 + [False]
    assert resting["trestbps"].isna().tolist() == [False] * 5 + [True, True]
    assert data.table("imaging")["ca"].iloc[0] == 0  # no vessel coloured is a finding
    assert data.available.tolist() == [
        *[[True] * 4] * 2,
        *[[True, True, True, False]] * 3,
        [True, False, False, False],
        [True, True, True, False],
    ]
    assert (data.natural().modality == data.available).all()


def test_four_folds_leave_one_hospital_out(release: Path) -> None:
    data = heart(release)
    assert data.folds[4].tolist() == [0, 0, 1, 1, 2, 2, 3]
    assert data.columns["site"].tolist() == [name.split("-")[0] for name in data.cases]


def test_both_layouts_give_the_same_cases(release: Path, tmp_path: Path) -> None:
    one, other = heart(release), heart(stacked(tmp_path / "table"))
    assert one.cases.tolist() == other.cases.tolist()
    assert one.label.tolist() == other.label.tolist()
    for name in one.modality_names:
        assert one.table(name).equals(other.table(name))
    assert [path.name for path in other.files] == ["heart.csv"]
    assert len(one.files) == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("67.0,1.0", "67.0,2.0", r"line 2: sex is '2.0'; it must be one of 0, 1 or blank"),
        ("67.0,1.0,4.0", "67.0,1.0,4.5", "line 2: cp is '4.5'"),
        ("67.0", "old", "line 2: age is 'old'; it must be a number"),
        ("3.0,2\n", "3.0,5\n", "line 2: num is '5'"),
        ("3.0,2\n", "3.0,?\n", "line 2: num is blank"),
        ("3.0,2\n", "3.0\n", "line 2: 13 cells under 14 columns"),
    ],
)
def test_cells_that_break_the_promise_are_named(
    release: Path, old: str, new: str, message: str
) -> None:
    replaced(release / "processed.cleveland.data", old, new)
    with pytest.raises(BadData, match=f"processed.cleveland.data, {message}"):
        heart(release)


def test_an_unknown_hospital_is_named(tmp_path: Path) -> None:
    root = stacked(tmp_path / "table")
    replaced(root / "heart.csv", "cleveland", "boston")
    with pytest.raises(BadData, match=r"heart.csv, line 7: site is 'boston'"):
        heart(root)


def test_missing_files_are_listed(release: Path) -> None:
    (release / "processed.va.data").unlink()
    with pytest.raises(BadData, match=r"1 of 4 needed files .*processed.va.data"):
        heart(release)
    with pytest.raises(BadData, match=r"4 of 4 needed files"):
        heart(release / "elsewhere")


def test_no_folder_at_all_names_both_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_DATA_DIR", raising=False)
    with pytest.raises(BadRequest, match=r"processed.va.data or heart.csv"):
        heart(None)


def test_the_release_has_the_known_counts(shared: Path) -> None:
    root = shared / "data" / "heart_uci"
    if not root.is_dir():
        pytest.skip("heart disease is not in the reference data")
    data = heart(root)
    assert np.bincount(data.label).tolist() == [411, 509]
    site = data.columns["site"]
    assert [int((site == name).sum()) for name in SITES] == [303, 294, 123, 200]
    assert data.label[site == "switzerland"].mean() == pytest.approx(0.93, abs=0.005)
    chol = data.table("resting")["chol"].isna().to_numpy()
    assert chol[site == "switzerland"].all()
    assert chol[site == "va"].sum() == 49 + 7  # as 0, and as ?
    ca = data.table("imaging")["ca"].isna().to_numpy()
    assert [round(ca[site == name].mean(), 2) for name in SITES] == [0.01, 0.99, 0.96, 0.99]
    assert (~data.available).sum(0).tolist() == [0, 0, 54, 476]
    assert len(make_split(data, 0, 5, 0, 0.2).test) == 184
