from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import Dataset
from bench.datasets.padufes20 import PLUGIN, TABLES, PadUfes20, PadUfes20Config
from bench.errors import BadData
from bench.spec import Recipe
from bench.splits import make_split

HEADER = (
    "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,"
    "skin_cancer_history,cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,"
    "diameter_1,diameter_2,diagnostic,itch,grew,hurt,changed,bleed,elevation,img_id,biopsed"
)
ROWS = (
    "PAT_1,11,,,,,8,,,,,,,,ARM,,,NEV,False,False,False,False,False,False,PAT_1_11_530.png,False",
    "PAT_2,12,False,True,BRASIL,UNK,55,False,FEMALE,True,True,True,False,3.0,NECK,6.0,5.0,BCC,"
    "True,UNK,False,UNK,True,True,PAT_2_12_939.png,True",
    "PAT_2,13,False,True,BRAZIL,,56,False,MALE,True,True,True,False,2.0,FACE,6.5,5.0,MEL,"
    "True,True,False,False,True,True,PAT_2_13_940.png,True",
    "PAT_3,11,,,,,77,,,,,,,,FACE,,,ACK,True,False,False,False,False,UNK,PAT_3_11_547.png,False",
    "PAT_4,14,,,,,60,,,,,,,,LIP,,,SEK,True,False,False,False,False,False,PAT_4_14_1.png,False",
    "PAT_5,15,True,True,ITALY,SPAIN,61,True,MALE,False,False,True,True,1.0,EAR,3.0,3.0,SCC,"
    "True,False,False,False,False,False,PAT_5_15_2.png,True",
)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write a small release: the table and the photos in the parts of the download."""
    folder = tmp_path / "padufes20"
    for part in ("imgs_part_1", "imgs_part_2"):
        (folder / "images" / part).mkdir(parents=True)
    (folder / "metadata.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    for row, line in enumerate(ROWS):
        name = line.split(",")[-2]
        photo = Image.new("RGB", (20 + row, 30), (10 * row, 0, 255))
        photo.save(folder / "images" / f"imgs_part_{1 + row % 2}" / name)
    return folder


def padufes20(root: Path, **config: object) -> Dataset:
    return PadUfes20().load(PadUfes20Config.model_validate({"size": 8, **config}), root)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_it_declares_fits_the_recipe() -> None:
    assert PLUGIN is PadUfes20
    assert Recipe(**PadUfes20.recipe_defaults).epochs == 20
    attributes = [attribute for table in TABLES for attribute in table.attributes]
    assert all("{value}" in attribute.template for attribute in attributes)
    assert not {a.name for a in attributes} & {"biopsed", "diagnostic", "lesion_id", "img_id"}
    assert all(attribute.leak for attribute in TABLES[1].attributes)


def test_rows_become_cases_of_six_classes_grouped_by_patient(release: Path) -> None:
    data = padufes20(release.parent)
    assert data.modality_names == ("lesion", "anamnesis")
    assert data.classes == ("ACK", "BCC", "MEL", "NEV", "SCC", "SEK")
    assert data.label.tolist() == [3, 1, 2, 0, 5, 4]
    assert data.group.tolist() == ["PAT_1", "PAT_2", "PAT_2", "PAT_3", "PAT_4", "PAT_5"]
    assert data.cases[0] == "PAT_1_11_530"
    assert data.columns["biopsed"].tolist() == ["False", "True", "True", "False", "False", "True"]
    assert data.files == (release / "metadata.csv",)


def test_cancer_is_one_of_three_diagnoses(release: Path) -> None:
    data = padufes20(release, target="cancer")
    assert data.classes == ("no cancer", "cancer")
    assert data.label.tolist() == [0, 1, 1, 0, 0, 1]


def test_unknown_and_blank_are_absent_and_brasil_is_brazil(release: Path) -> None:
    data = padufes20(release)
    lesion, anamnesis = data.table("lesion"), data.table("anamnesis")
    assert anamnesis["background_father"].tolist()[1:3] == ["Brazil", "Brazil"]
    assert anamnesis["background_mother"].isna().tolist() == [True] * 5 + [False]
    assert lesion["grew"].isna().tolist() == [False, True, False, False, False, False]
    assert lesion["elevation"].isna().tolist() == [False, False, False, True, False, False]
    for table in TABLES:
        for attribute in table.attributes:
            if attribute.kind == "categorical":
                cells = data.table(table.name)[attribute.name].dropna()
                assert set(cells) <= set(attribute.categories)
                assert not {"Unk", "UNK", "Brasil"} & set(attribute.categories)


def test_words_and_numbers_are_read(release: Path) -> None:
    data = padufes20(release)
    words = [55, "neck", "yes", "no", "yes", "yes"]
    columns = ["age", "region", "itch", "hurt", "bleed", "elevation"]
    assert data.table("lesion")[columns].iloc[1].tolist() == words
    columns = ["gender", "smoke", "drink", "fitspatrick", "diameter_1"]
    assert data.table("anamnesis")[columns].iloc[1].tolist() == ["female", "no", "yes", 3, 6]


def test_the_anamnesis_is_absent_as_a_block(release: Path) -> None:
    data = padufes20(release)
    assert data.available[:, 0].all()
    assert data.available[:, 1].tolist() == [False, True, True, False, False, True]
    assert data.table("anamnesis")[~data.available[:, 1]].isna().all(axis=None)


def test_photos_are_found_in_the_parts_of_the_release(release: Path) -> None:
    data = padufes20(release, photo=True)
    assert data.modality_names == ("lesion", "anamnesis", "photo")
    assert data.available[:, 2].all()
    pixels = data.content["photo"].read(np.arange(6))  # type: ignore[attr-defined]
    assert pixels.shape == (6, 8, 8, 3)
    assert pixels[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert len(data.files) == 7
    assert data.fingerprint != padufes20(release).fingerprint


def test_smaller_copies_as_jpeg_serve_and_the_release_goes_first(release: Path) -> None:
    small = release / "images128"
    small.mkdir()
    for line in ROWS[:2]:
        name = line.split(",")[-2].replace(".png", ".jpg")
        Image.new("RGB", (9, 9), (200, 200, 200)).save(small / name)
    (release / "images" / "imgs_part_1" / "PAT_1_11_530.png").unlink()
    pixels = (
        padufes20(release, photo=True)
        .content["photo"]
        .read(  # type: ignore[attr-defined]
            np.array([0, 1])
        )
    )
    assert pixels[:, 0, 0, 0].tolist() == [200, 10]


def test_missing_photos_are_an_error_or_absent(release: Path) -> None:
    (release / "images" / "imgs_part_2" / "PAT_2_12_939.png").unlink()
    with pytest.raises(BadData, match=r"1 of 6 files .*: PAT_2_12_939.png; complete the"):
        padufes20(release, photo=True)
    data = padufes20(release, photo=True, missing_files="absent")
    assert data.available[:, 2].tolist() == [True, False, True, True, True, True]


def test_no_photo_at_all_is_always_an_error(release: Path) -> None:
    for path in release.rglob("*.png"):
        path.unlink()
    with pytest.raises(BadData, match=r"6 of 6 files"):
        padufes20(release, photo=True, missing_files="absent")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("NEV", "WART", r"line 2: diagnostic is 'WART'; it must be one of ACK, BCC"),
        ("BRASIL", "BRASILIA", "line 3: background_father is 'BRASILIA'"),
        ("FEMALE", "female", "line 3: gender is 'female'; it must be one of FEMALE, MALE, UNK"),
        ("ARM,,,NEV,False", "ARM,,,NEV,maybe", "line 2: itch is 'maybe'; .*True, False, UNK"),
        ("NECK", "CALF", "line 3: region is 'CALF'"),
        ("6.0,5.0,BCC", "6 mm,5.0,BCC", "line 3: diameter_1 is '6 mm'"),
        ("PAT_1,11", ",11", "line 2: patient_id is blank"),
        ("PAT_2_13_940", "PAT_2_12_939", "line 4: img_id is 'PAT_2_12_939.png'; .*once"),
        (",biopsed", ",biopsied", "column biopsed is missing"),
    ],
)
def test_cells_that_break_the_promise_are_named(
    release: Path, old: str, new: str, message: str
) -> None:
    replaced(release / "metadata.csv", old, new)
    with pytest.raises(BadData, match=message):
        padufes20(release)


def test_the_release_has_the_known_counts(shared: Path) -> None:
    root = shared / "data" / "padufes20"
    if not root.is_dir():
        pytest.skip("PAD-UFES-20 is not in the reference data")
    data = padufes20(root)
    assert np.bincount(data.label).tolist() == [730, 845, 52, 244, 192, 235]
    assert len(np.unique(data.group)) == 1373
    assert (~data.available).sum(0).tolist() == [0, 804]
    assert data.table("anamnesis")["background_father"].isna().sum() == 818 + 95
    assert (data.table("anamnesis")["background_father"] == "Brazil").sum() == 89 + 3
    split = make_split(data, 0, 5, 0, 0.2)
    assert not set(data.group[split.test]) & set(data.group[split.train])


def test_the_anamnesis_of_the_release_tells_cancer_by_being_there(shared: Path) -> None:
    from sklearn.metrics import roc_auc_score

    root = shared / "data" / "padufes20"
    if not root.is_dir():
        pytest.skip("PAD-UFES-20 is not in the reference data")
    data = padufes20(root, target="cancer", photo=True, missing_files="absent")
    assert data.available[data.label == 1, 1].all()
    assert roc_auc_score(data.label, data.available[:, 1]) == pytest.approx(0.83, abs=0.005)
    assert data.available[:, 2].sum() == 109
    assert (
        data.content["photo"]
        .read(  # type: ignore[attr-defined]
            np.flatnonzero(data.available[:, 2])[:2]
        )
        .shape
        == (2, 8, 8, 3)
    )
