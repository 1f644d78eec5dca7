"""ODIR on small releases of our own; its rule on a made table with the counts of the real one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import Dataset
from bench.datasets.odir import ATTRIBUTES, COLUMNS, DISEASES, PLUGIN, UNUSABLE, Odir, OdirConfig
from bench.errors import BadData
from bench.spec import EncoderConfig, Recipe
from bench.splits import make_split

ANNOTATIONS = "ODIR-5K_Training_Annotations(Updated)_V2.xlsx"
# Patients of full_df.csv with one label, those that the rule leaves, and the others.
SINGLE = {"N": 1080, "D": 697, "G": 118, "C": 143, "A": 117, "H": 36, "M": 105, "O": 506}
KEPT = {"N": 1002, "D": 679, "G": 114, "C": 126, "A": 117, "H": 36, "M": 101, "O": 466}
N_SEVERAL = 529 + 27
N_ONE_EYE = 324

# id, age, sex, left keywords, right keywords, labels, eyes that are there
Patient = tuple[int, int | str, str, str, str, str, str]
SMALL: tuple[Patient, ...] = (
    (0, 69, "Female", "cataract", "normal fundus", "C", "LR"),
    (1, 57, "Male", "normal fundus", "normal fundus", "N", "L"),
    (
        2,
        1,
        "Male",
        "laser spot\uff0cmoderate non proliferative retinopathy",
        "normal fundus",
        "D",
        "LR",
    ),
    (3, 40, "Male", "drusen\uff0clens dust", "drusen", "A", "LR"),
    (4, 41, "Female", "myopia, lens dust", "glaucoma", "G", "R"),
    (5, 42, "Female", "normal fundus", "low image quality", "N", "LR"),
    (7, 43, "Female", "cataract", "diabetic retinopathy", "DC", "LR"),
    (8, 44, "", "hypertensive retinopathy", "normal fundus", "H", "LR"),
    (9, "", "Male", "optic disk photographically invisible", "normal fundus", "N", "LR"),
    (11, 46, "Male", "no fundus image", "normal fundus", "N", "LR"),
    (12, 47, "Male", "Refractive media opacity", "normal fundus", "O", "LR"),
)
TAKEN = ["0", "1", "2", "4", "8", "12"]


def record(patient: Patient) -> list[object]:
    number, age, sex, left, right, labels, _ = patient
    marks = [int(letter in labels) for letter in DISEASES]
    names = (f"{number}_left.jpg", f"{number}_right.jpg")
    return [number, age, sex, *names, left, right, *marks]


def pictures_of(patient: Patient) -> Iterator[str]:
    number, *_, eyes = patient
    if "L" in eyes:
        yield f"{number}_left.jpg"
    if "R" in eyes:
        yield f"{number}_right.jpg"


def full_df(patients: tuple[Patient, ...]) -> str:
    """Return the table with a row per picture, right eyes after all left ones."""
    rows = [(patient, name) for patient in patients for name in pictures_of(patient)]
    rows.sort(key=lambda row: "left" in row[1])
    lines = [",".join([*COLUMNS, "filepath", "labels", "target", "filename"])]
    for patient, name in rows:
        cells = ",".join(f'"{cell}"' if "," in str(cell) else str(cell) for cell in record(patient))
        lines.append(f"{cells},../input/{name},['N'],\"[1, 0, 0, 0, 0, 0, 0, 0]\",{name}")
    return "\n".join(lines) + "\n"


def write_pictures(folder: Path, names: Mapping[str, int]) -> None:
    folder.mkdir(parents=True)
    for name, grey in names.items():
        content = BytesIO()
        Image.new("RGB", (10, 8), (grey, grey, grey)).save(content, "PNG")
        (folder / name).write_bytes(content.getvalue())


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write the release with one row per picture, and larger pictures of other names beside it."""
    root = tmp_path / "odir"
    names = [name for patient in SMALL for name in pictures_of(patient)]
    write_pictures(root / "preprocessed_images", {name: 5 * i for i, name in enumerate(names)})
    write_pictures(root / "ODIR-5K" / "ODIR-5K" / "Training Images", dict.fromkeys(names, 250))
    (root / "full_df.csv").write_text(full_df(SMALL), encoding="utf-8")
    return root


@pytest.fixture
def challenge(tmp_path: Path) -> Path:
    """Write the release of the challenge: a sheet with one row per patient."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (list(COLUMNS), *map(record, SMALL)):
        book.active.append(row)
    root = tmp_path / "challenge"
    names = [f"{patient[0]}_{eye}.jpg" for patient in SMALL for eye in ("left", "right")]
    write_pictures(root / "ODIR-5K_Training_Dataset", dict.fromkeys(names, 9))
    book.save(root / ANNOTATIONS)
    return root


def odir(root: Path, **config: object) -> Dataset:
    return Odir().load(OdirConfig.model_validate({"size": 8, **config}), root)


def replaced(path: Path, old: str, new: str, count: int = -1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def test_what_it_declares_fits_recipe_and_encoder() -> None:
    assert PLUGIN is Odir
    assert Recipe(**Odir.recipe_defaults).batch_size == 32
    encoder = EncoderConfig(**Odir.encoder_defaults)
    assert (encoder.image, encoder.pretrained, encoder.frozen) == ("resnet50", True, True)
    assert Odir.default_folds == 3
    assert OdirConfig().size == 512
    said = [each.template.format(name=each.name, value="x") for each in ATTRIBUTES]
    assert said == ["The sex of patient is x", "The age of patient is x"]


def test_the_rule_takes_one_label_and_usable_pictures(release: Path) -> None:
    data = odir(release.parent)
    assert set(data.cases) == set(TAKEN)
    classes = dict(zip(data.cases, np.array(data.classes)[data.label], strict=True))
    assert classes == dict.fromkeys(TAKEN, "other") | {"1": "normal", "2": "diabetes"}


def test_full_labels_are_eight_classes_of_the_same_cases(release: Path) -> None:
    three, full = odir(release), odir(release, labels="full")
    assert full.classes == tuple(DISEASES.values())
    assert full.cases.tolist() == three.cases.tolist()
    classes = dict(zip(full.cases, np.array(full.classes)[full.label], strict=True))
    assert (classes["0"], classes["4"], classes["8"]) == ("cataract", "glaucoma", "hypertension")
    for data in (three, full):
        assert data.columns["label_C"].tolist() == ["1" if c == "0" else "0" for c in data.cases]
        assert set(data.columns) == {f"label_{letter}" for letter in DISEASES}


def test_keywords_are_parted_by_the_full_width_comma_alone(release: Path) -> None:
    assert "4" in odir(release).cases  # "myopia, lens dust" with an ASCII comma is one keyword
    assert "3" not in odir(release).cases


def test_an_eye_without_a_row_is_absent(release: Path) -> None:
    data = odir(release)
    there = {case: row.tolist() for case, row in zip(data.cases, data.available, strict=True)}
    assert there["1"] == [True, False, True]
    assert there["4"] == [False, True, True]
    assert sum(map(all, there.values())) == len(TAKEN) - 2
    assert {modality.encoder_key for modality in data.modalities[:2]} == {"fundus"}


def test_pictures_are_those_beside_the_table_that_was_read(release: Path) -> None:
    data = odir(release)
    rows = np.flatnonzero(data.cases == "2")
    pixels = data.content["right"].read(rows)  # type: ignore[attr-defined]
    assert pixels.shape == (1, 8, 8, 3)
    names = [name for patient in SMALL for name in pictures_of(patient)]
    assert pixels[0, 0, 0].tolist() == [5 * names.index("2_right.jpg")] * 3
    raw = odir(release, images="ODIR-5K/ODIR-5K/Training Images")
    assert raw.content["right"].read(rows).max() == 250  # type: ignore[attr-defined]


def test_age_one_and_blank_cells_are_absent(release: Path) -> None:
    data = odir(release)
    table = data.table("table").set_index(data.cases)
    assert table["age"].isna().to_dict() == {case: case == "2" for case in data.cases}
    assert table["sex"].isna().to_dict() == {case: case == "8" for case in data.cases}
    first = data.table("table")[data.cases == "0"]
    assert first.to_numpy().tolist() == [["female", 69]]


def test_a_sheet_is_read_like_the_table(challenge: Path, release: Path) -> None:
    data = odir(challenge)
    assert data.cases.tolist() == TAKEN
    assert data.available.all()
    table = odir(release)
    order = [table.cases.tolist().index(case) for case in TAKEN]
    assert table.label[order].tolist() == data.label.tolist()
    assert table.table("table").iloc[order].reset_index(drop=True).equals(data.table("table"))
    assert data.files[0].name == ANNOTATIONS


def test_a_sheet_saved_as_csv_under_another_name_serves_too(release: Path) -> None:
    lines = [",".join(COLUMNS)]
    for patient in SMALL:
        lines.append(",".join(f'"{cell}"' for cell in record(patient)))
    (release / "mine.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    images = "ODIR-5K/ODIR-5K/Training Images"
    with pytest.raises(BadData, match=r"mine.csv: 2 of 12 files .*: 4_left.jpg, 1_right.jpg;"):
        odir(release, table="mine.csv", images=images)
    data = odir(release, table="mine.csv", images=images, missing_files="absent")
    assert data.cases.tolist() == TAKEN
    assert data.available.sum() == 3 * len(TAKEN) - 2


def test_missing_pictures_are_an_error_or_absent(release: Path) -> None:
    (release / "preprocessed_images" / "0_left.jpg").unlink()
    with pytest.raises(BadData, match=r"full_df.csv: 1 of 10 files .*: 0_left.jpg; complete"):
        odir(release)
    data = odir(release, missing_files="absent")
    assert data.available[data.cases == "0"].tolist() == [[False, True, True]]
    for path in (release / "preprocessed_images").iterdir():
        path.unlink()
    with pytest.raises(BadData, match=r"10 of 10 files"):
        odir(release, missing_files="absent")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("12,47,Male", "12,47 y,Male", r"full_df.csv, line \d+: Patient Age is '47 y'"),
        ("12,47,Male", "12,47,male", r"Patient Sex is 'male'; it must be one of Female, Male or"),
        ("fundus,0,0,0,0,0,0,0,1", "fundus,0,0,0,0,0,0,0,2", "O is '2'; it must be one of 0, 1"),
        (",filename", ",filename,filename", "line 2: 19 cells under 20 columns"),
        ("Patient Age", "Age", "column Patient Age is missing"),
        (",2_left.jpg\n", ",0_left.jpg\n", "filename is '0_left.jpg'; it must be there once only"),
    ],
)
def test_cells_that_break_the_promise_are_named(
    release: Path, old: str, new: str, message: str
) -> None:
    replaced(release / "full_df.csv", old, new)
    with pytest.raises(BadData, match=message):
        odir(release)


def test_the_rows_of_both_eyes_must_agree(release: Path) -> None:
    replaced(release / "full_df.csv", "0,69,Female", "0,70,Female", count=1)
    with pytest.raises(BadData, match=r"Patient Age is '69'; it must be as in the first row of"):
        odir(release)


def test_a_patient_twice_in_a_sheet_is_refused(challenge: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.load_workbook(challenge / ANNOTATIONS)
    book.active.append(record(SMALL[0]))
    book.save(challenge / ANNOTATIONS)
    with pytest.raises(BadData, match=r"line 13: ID is '0'; it must be there once only"):
        odir(challenge)


@pytest.fixture(scope="module")
def full_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 3358 patients with the real counts of labels, spoilt pictures and single eyes."""
    reasons = sorted(UNUSABLE)
    drawn: list[tuple[str, str]] = [("DO", "normal fundus")] * N_SEVERAL
    for letter, n_patients in SINGLE.items():
        spoilt = [f"drusen\uff0c{reasons[k % 4]}" for k in range(n_patients - KEPT[letter])]
        drawn += [(letter, words) for words in ["normal fundus"] * KEPT[letter] + spoilt]
    order = np.random.default_rng(0).permutation(len(drawn))
    patients = tuple(
        (row, 20 + row % 60, "Male", drawn[i][1], "drusen", drawn[i][0], "L" if k else "LR")
        for row, i in enumerate(order)
        for k in [row < N_ONE_EYE]
    )
    root = tmp_path_factory.mktemp("full")
    (root / "preprocessed_images").mkdir()
    for patient in patients:
        for name in pictures_of(patient):
            (root / "preprocessed_images" / name).touch()  # found, never decoded
    (root / "full_df.csv").write_text(full_df(patients), encoding="utf-8")
    return root


def test_the_rule_gives_the_number_of_cases_in_cmml(full_release: Path) -> None:
    data = odir(full_release)
    assert data.n_cases == 2641
    assert np.bincount(data.label).tolist() == [1002, 679, 960]
    assert np.bincount(odir(full_release, labels="full").label).tolist() == list(KEPT.values())
    tests = [make_split(data, fold, 3, 0, 0.2).test for fold in range(3)]
    assert sorted(np.concatenate(tests)) == list(range(2641))


def test_the_counts_are_those_of_the_release(shared: Path) -> None:
    import json

    path = shared / "data" / "schemas" / "odir5k.json"
    if not path.is_file():
        pytest.skip("the facts about ODIR are not in the reference data")
    schema = json.loads(path.read_text(encoding="utf-8"))
    assert tuple(schema["xlsx_columns"]) == COLUMNS
    assert schema["full_df"]["single_label_counts"] == SINGLE
    assert schema["full_df"]["patients"] == sum(SINGLE.values()) + N_SEVERAL
    assert set(schema["image_quality_keywords"]) >= UNUSABLE
