"""HAM10000 on a small release of our own, in the layout and with the quirks of the real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import Dataset
from bench.datasets.ham10000 import (
    ATTRIBUTES,
    COLUMNS,
    DIAGNOSES,
    PLACES,
    PLUGIN,
    UNKNOWN,
    Ham10000,
    Ham10000Config,
)
from bench.errors import BadData
from bench.spec import Recipe
from bench.splits import make_split

HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization"
ROWS = (
    "HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp",
    "HAM_0000118,ISIC_0025030,bkl,histo,80.0,male,scalp",
    "HAM_0002730,ISIC_0026769,nv,follow_up,0.0,female,lower extremity",
    "HAM_0001466,ISIC_0031633,mel,histo,,unknown,unknown",
    "HAM_0002761,ISIC_0029176,vasc,consensus,60.0,male,face",
)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write a small release with its pictures in two parts."""
    folder = tmp_path / "ham10000"
    for part in (1, 2):
        (folder / f"HAM10000_images_part_{part}").mkdir(parents=True)
    (folder / "HAM10000_metadata.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    for row, line in enumerate(ROWS):
        picture = Image.new("RGB", (20, 15), (40 * row,) * 3)
        picture.save(folder / f"HAM10000_images_part_{1 + row % 2}" / f"{line.split(',')[1]}.jpg")
    return folder


def ham10000(root: Path, **config: object) -> Dataset:
    return Ham10000().load(Ham10000Config.model_validate({"size": 8, **config}), root)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_it_declares_fits_the_recipe() -> None:
    assert PLUGIN is Ham10000
    assert Recipe(**Ham10000.recipe_defaults).epochs == 15


def test_pictures_become_cases_grouped_by_lesion(release: Path) -> None:
    data = ham10000(release.parent)
    assert data.cases[0] == "ISIC_0027419"
    assert data.classes == DIAGNOSES
    assert np.array(DIAGNOSES)[data.label].tolist() == ["bkl", "bkl", "nv", "mel", "vasc"]
    assert len(np.unique(data.group)) == 4
    assert data.group[0] == data.group[1]
    assert data.columns["dx_type"][2] == "follow_up"
    assert len(data.files) == 1 + len(ROWS)
    pixels = data.content["dermoscopic"].read(np.arange(5))  # type: ignore[attr-defined]
    assert pixels.shape == (5, 8, 8, 3)
    assert pixels[:, 0, 0, 0].tolist() == pytest.approx([0, 40, 80, 120, 160], abs=2)


def test_age_zero_blank_and_unknown_are_absent(release: Path) -> None:
    data = ham10000(release)
    table = data.table("table")
    assert table["age"].isna().tolist() == [False, False, True, True, False]
    assert table["sex"].isna().tolist() == [False, False, False, True, False]
    assert table["localization"].tolist()[:3] == ["scalp", "scalp", "lower extremity"]
    assert data.available.tolist() == [[True, True]] * 3 + [[True, False], [True, True]]


def test_how_the_diagnosis_was_made_is_no_input() -> None:
    names = {attribute.name for attribute in ATTRIBUTES}
    assert names == {"age", "sex", "localization"}


def test_lesions_stay_together_in_folds(tmp_path: Path) -> None:
    lines = [
        f"HAM_{k // 2},ISIC_{k},{DIAGNOSES[k // 2 % 7]},histo,50,male,back" for k in range(140)
    ]
    (tmp_path / "HAM10000_metadata").write_text("\n".join([HEADER, *lines]) + "\n")
    Image.new("RGB", (9, 9)).save(tmp_path / "ISIC_0.jpg")
    data = ham10000(tmp_path, missing_files="absent")
    assert data.available.sum(0).tolist() == [1, 140]
    for fold in range(5):
        split = make_split(data, fold, 5, 0, 0.2)
        assert not set(data.group[split.test]) & set(data.group[split.train])


def test_missing_pictures_are_an_error_or_absent(release: Path) -> None:
    (release / "HAM10000_images_part_2" / "ISIC_0025030.jpg").unlink()
    with pytest.raises(BadData, match=r"metadata.csv: 1 of 5 files .*: ISIC_0025030.jpg; complete"):
        ham10000(release)
    data = ham10000(release, missing_files="absent")
    assert data.available[:, 0].tolist() == [True, False, True, True, True]
    for path in release.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(BadData, match=r"5 of 5 files"):
        ham10000(release, missing_files="absent")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",bkl,", ",wart,", r"metadata.csv, line 2: dx is 'wart'; it must be one of akiec, bcc"),
        ("80.0", "old", "line 2: age is 'old'"),
        (",male,scalp", ",Male,scalp", "line 2: sex is 'Male'; .*female, male, unknown or blank"),
        ("scalp", "head", "line 2: localization is 'head'"),
        ("ISIC_0025030", "ISIC_0027419", "line 3: image_id is 'ISIC_0027419'; .*once only"),
        ("HAM_0000118,ISIC_0027419", ",ISIC_0027419", "line 2: lesion_id is blank"),
        (",dx_type", ",type", "column dx_type is missing"),
    ],
)
def test_cells_that_break_the_promise_are_named(
    release: Path, old: str, new: str, message: str
) -> None:
    replaced(release / "HAM10000_metadata.csv", old, new)
    with pytest.raises(BadData, match=message):
        ham10000(release)


def test_the_words_are_those_of_the_release(shared: Path) -> None:
    import json

    path = shared / "data" / "schemas" / "ham10000.json"
    if not path.is_file():
        pytest.skip("the facts about HAM10000 are not in the reference data")
    columns = json.loads(path.read_text())["columns"]
    assert set(columns) == set(COLUMNS)
    assert set(columns["dx"]["counts"]) == set(DIAGNOSES)
    assert set(columns["localization"]["counts"]) == {*PLACES, *UNKNOWN}
