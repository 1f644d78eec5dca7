"""Derm7pt on small releases of our own, and on a made one with the counts of the real release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from bench.data import Dataset
from bench.datasets.derm7pt import (
    CLASS_OF,
    CLASSES,
    COLUMN_OF,
    CRITERIA,
    NOTED,
    PLUGIN,
    Derm7pt,
    Derm7ptConfig,
)
from bench.errors import BadData
from bench.leakscan import scan
from bench.spec import EncoderConfig, Recipe
from bench.splits import make_split

HEADER = (
    "case_num,diagnosis,seven_point_score,pigment_network,streaks,pigmentation,"
    "regression_structures,dots_and_globules,blue_whitish_veil,vascular_structures,"
    "level_of_diagnostic_difficulty,elevation,location,sex,management,clinic,derm,case_id,notes"
)
# The five classes of each official part, as in the release.
COUNTS = {
    "train": {"NEV": 256, "MEL": 90, "MISC": 32, "BCC": 19, "SK": 16},
    "valid": {"NEV": 100, "MEL": 61, "MISC": 25, "SK": 10, "BCC": 7},
    "test": {"NEV": 219, "MEL": 101, "MISC": 40, "SK": 19, "BCC": 16},
}
N_WITHOUT_CLINICAL = 9
SMALL = (
    "clark nevus",
    "melanosis",
    "melanoma (in situ)",
    "blue nevus",
    "melanoma",
    "basal cell carcinoma",
    "seborrheic keratosis",
    "melanoma metastasis",
)
PARTS = {"train": (6, 0, 2, 1), "valid": (3, 7), "test": (5, 4)}  # positions, in no order


def picture(grey: int) -> bytes:
    content = BytesIO()
    Image.new("RGB", (9, 6), (grey, grey, 0)).save(content, "PNG")
    return content.getvalue()


def line(position: int, diagnosis: str, *, own_clinical: bool) -> str:
    """Return a record; case numbers count down, so that they are no positions."""
    management = "excision" if diagnosis.startswith("melanoma") else "clinical follow up"
    derm = f"NDL/Ndl{position:03d}.{'JPG' if position % 3 else 'jpg'}"
    clinic = f"NEL/Nel{position:03d}.jpg" if own_clinical else derm
    return (
        f"{9000 - position},{diagnosis},1,absent,irregular,diffuse regular,absent,regular,present,"
        f"within regression,medium,flat,head neck,{'male' if position % 2 else 'female'},"
        f"{management},{clinic},{derm},,"
    )


def write_release(
    root: Path, diagnoses: Sequence[str], parts: dict[str, Sequence[int]], without: Sequence[int]
) -> Path:
    """Write a release in the layout of the download, its pictures in bytes that may repeat."""
    (root / "meta").mkdir(parents=True)
    records = [line(i, name, own_clinical=i not in without) for i, name in enumerate(diagnoses)]
    (root / "meta" / "meta.csv").write_text("\n".join([HEADER, *records]) + "\n")
    for part, positions in parts.items():
        text = "\n".join(["indexes", *map(str, positions)])
        (root / "meta" / f"{part}_indexes.csv").write_text(text + "\n")
    for folder in ("NEL", "NDL"):
        (root / "images" / folder).mkdir(parents=True)
    clinical, dermoscopic = picture(200), picture(100)
    for position, record in enumerate(records):
        clinic, derm = record.split(",")[-4:-2]
        (root / "images" / derm).write_bytes(dermoscopic)
        if position not in without:
            (root / "images" / clinic).write_bytes(clinical)
    return root


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "derm7pt" / "release_v0", SMALL, dict(PARTS), without=[3])


@pytest.fixture(scope="module")
def full_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 1011 cases with the real counts of diagnoses, parts and missing clinical pictures."""
    names: dict[str, list[str]] = {}
    for diagnosis, group in CLASS_OF.items():
        names.setdefault(group, []).append(diagnosis)
    drawn = [
        (part, names[group][k % len(names[group])])
        for part, counts in COUNTS.items()
        for group, n_cases in counts.items()
        for k in range(n_cases)
    ]
    order = np.random.default_rng(0).permutation(len(drawn))
    parts = {part: [k for k, i in enumerate(order) if drawn[i][0] == part] for part in COUNTS}
    diagnoses = [drawn[i][1] for i in order]
    used = [k for k, name in enumerate(diagnoses) if CLASS_OF[name] in CLASSES[2]]
    root = tmp_path_factory.mktemp("full")
    return write_release(root, diagnoses, dict(parts), without=used[:N_WITHOUT_CLINICAL])


def derm7pt(root: Path, **config: object) -> Dataset:
    return Derm7pt().load(Derm7ptConfig.model_validate({"size": 8, **config}), root)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def read(data: Dataset, modality: str, rows: Sequence[int]) -> np.ndarray:
    return data.content[modality].read(np.array(rows))  # type: ignore[attr-defined]


def test_what_it_declares_fits_recipe_and_encoder() -> None:
    assert PLUGIN is Derm7pt
    assert Recipe(**Derm7pt.recipe_defaults).encoder_lr_factor == 0.1
    encoder = EncoderConfig(**Derm7pt.encoder_defaults)
    assert (encoder.image, encoder.pretrained) == ("swin_tiny_patch4_window7_224", True)
    assert (Derm7pt.default_folds, Derm7pt.default_seeds) == (1, (0, 1, 2))


def test_two_classes_are_melanoma_and_nevus_as_in_cmml(full_release: Path) -> None:
    data = derm7pt(full_release)
    assert data.classes == ("NEV", "MEL")
    assert np.bincount(data.label).tolist() == [575, 252]
    assert data.parts is not None
    assert Counter(data.parts.tolist()) == {"train": 346, "valid": 161, "test": 320}
    split = make_split(data, 0, 1, 0, 0.2)
    assert [np.bincount(data.label[rows]).tolist() for rows in (split.train, split.valid)] == [
        [256, 90],
        [100, 61],
    ]
    assert np.bincount(data.label[split.test]).tolist() == [219, 101]
    assert (~data.available).sum(0).tolist() == [N_WITHOUT_CLINICAL, 0, 0]


def test_five_classes_are_all_cases_as_in_alignedfusion(full_release: Path) -> None:
    data = derm7pt(full_release, classes=5)
    assert data.n_cases == 1011
    assert data.classes == ("BCC", "NEV", "MEL", "MISC", "SK")
    assert np.bincount(data.label).tolist() == [42, 575, 252, 97, 45]
    split = make_split(data, 0, 1, 0, 0.2)
    assert [len(rows) for rows in (split.train, split.valid, split.test)] == [413, 203, 395]
    for part, rows in (("train", split.train), ("valid", split.valid), ("test", split.test)):
        counts = np.bincount(data.label[rows], minlength=5).tolist()
        assert dict(zip(data.classes, counts, strict=True)) == COUNTS[part]


def test_index_files_hold_positions_and_no_case_numbers(release: Path) -> None:
    data = derm7pt(release.parents[1], classes=5)
    assert data.cases.tolist() == [str(9000 - k) for k in range(len(SMALL))]
    assert data.parts is not None
    assert data.parts.tolist() == [
        next(part for part, positions in PARTS.items() if k in positions) for k in range(len(SMALL))
    ]


def test_melanosis_is_no_melanoma(release: Path) -> None:
    data = derm7pt(release)
    assert "melanosis" not in data.columns["diagnosis"]
    assert data.columns["diagnosis"][data.label == 1].tolist() == [
        "melanoma (in situ)",
        "melanoma",
        "melanoma metastasis",
    ]
    for diagnosis, group in CLASS_OF.items():
        assert (group == "MEL") == diagnosis.startswith("melanoma")
        assert (group == "NEV") == ("nevus" in diagnosis)


def test_a_case_without_a_clinical_picture_of_its_own_has_none(release: Path) -> None:
    data = derm7pt(release, classes=5)
    assert data.available[:, 0].tolist() == [k != 3 for k in range(len(SMALL))]
    assert data.available[:, 1:].all()
    assert read(data, "clinical", [0, 7])[:, 0, 0].tolist() == [[200, 200, 0]] * 2
    assert read(data, "dermoscopic", [3]).shape == (1, 8, 8, 3)
    assert len(data.files) == 4 + 2 * len(SMALL) - 1
    assert {modality.encoder_key for modality in data.modalities[:2]} == {"lesion"}


def test_pictures_are_found_whatever_the_case_of_their_extension(release: Path) -> None:
    images = release / "images"
    (images / "NEL" / "Nel000.jpg").rename(images / "NEL" / "NEL000.JPG")
    data = derm7pt(release, classes=5)
    assert data.content["clinical"].paths[0].name == "NEL000.JPG"  # type: ignore[attr-defined]


def test_a_name_that_is_there_as_written_goes_before_one_in_another_case(release: Path) -> None:
    images = release / "images" / "NEL"
    (images / "NEL000.JPG").write_bytes(picture(1))
    if (images / "Nel000.jpg").read_bytes() == picture(1):
        pytest.skip("the disk does not tell cases apart")
    data = derm7pt(release, classes=5)
    assert data.content["clinical"].paths[0].name == "Nel000.jpg"  # type: ignore[attr-defined]


def test_sentences_are_those_of_cmml() -> None:
    said = {
        name: each.template.format(name=name, value=each.categories[0])
        for name, each in NOTED.items()
    }
    assert said == {
        "sex": "The sex of patient is female",
        "management": "The management for the patient is clinical follow up",
        "location": "The lesion location is abdomen",
        "elevation": "The elevation is flat",
        "difficulty": "The diagnostic difficulty is low",
    }


def test_the_word_absent_is_a_finding_and_a_blank_is_a_gap(release: Path) -> None:
    replaced(release / "meta" / "meta.csv", "within regression,medium,", ",,")
    table = derm7pt(release, classes=5, criteria=True).table("table")
    assert table.shape == (len(SMALL), 12)
    assert table["streaks"].unique().tolist() == ["irregular"]
    assert (table["pigment_network"] == "absent").all()
    assert table["vascular_structures"].isna().tolist() == [True] + [False] * 7
    assert table["difficulty"].isna().tolist() == [True] + [False] * 7


def test_attributes_are_chosen_and_the_table_can_be_left_out(release: Path) -> None:
    data = derm7pt(release, attributes=["sex", "location"])
    assert list(data.table("table").columns) == ["sex", "location"]
    assert derm7pt(release, attributes=[]).modality_names == ("clinical", "dermoscopic")
    data = derm7pt(release, attributes=[], criteria=True)
    assert list(data.table("table").columns) == [each.name for each in CRITERIA]
    for attributes in (["diagnosis"], ["sex", "sex"]):
        with pytest.raises(ValidationError):
            derm7pt(release, attributes=attributes)


def test_management_and_criteria_say_that_they_leak(full_release: Path) -> None:
    assert {name for name, each in NOTED.items() if each.leak} == {"management"}
    assert all(each.leak for each in CRITERIA)
    data = derm7pt(full_release)
    warnings = scan(data, [make_split(data, 0, 1, 0, 0.2)]).warnings()
    assert any("class MEL have table.management = excision" in each for each in warnings)


def test_missing_pictures_are_an_error_or_absent(release: Path) -> None:
    (release / "images" / "NDL" / "Ndl001.JPG").unlink()
    message = r"meta.csv: 1 of 15 files .*: images/NDL/Ndl001.JPG; complete the release, or set"
    with pytest.raises(BadData, match=message):
        derm7pt(release, classes=5)
    data = derm7pt(release, classes=5, missing_files="absent")
    assert data.available[:, 1].tolist() == [k != 1 for k in range(len(SMALL))]
    assert derm7pt(release).available[:, 1].all()  # the case is none of the two classes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clark nevus", "wart", r"meta.csv, line 2: diagnosis is 'wart'; it must be one of"),
        ("clark nevus", "", "line 2: diagnosis is blank"),
        ("8999,", "9000,", "line 3: case_num is '9000'; it must be there once only"),
        ("head neck", "neck", "line 2: location is 'neck'; it must be one of abdomen"),
        ("medium", "hard", "line 2: level_of_diagnostic_difficulty is 'hard'"),
        ("NDL/Ndl000.jpg", "", "line 2: derm is blank"),
        (",derm,", ",dermoscopy,", "column derm is missing"),
    ],
)
def test_cells_that_break_the_promise_are_named(
    release: Path, old: str, new: str, message: str
) -> None:
    replaced(release / "meta" / "meta.csv", old, new)
    with pytest.raises(BadData, match=message):
        derm7pt(release, classes=5)


@pytest.mark.parametrize(
    ("part", "old", "new", "message"),
    [
        ("valid", "3", "8", r"valid_indexes.csv, line 2: indexes is '8'; .*from 0 to 7"),
        ("valid", "3", "-1", "line 2: indexes is '-1'"),
        ("test", "5", "6", "test_indexes.csv, line 2: indexes is '6'; .*the part train"),
        ("test", "5\n", "", r"meta.csv: 1 rows are in none of .*; first: position 5"),
    ],
)
def test_positions_that_break_the_promise_are_named(
    release: Path, part: str, old: str, new: str, message: str
) -> None:
    replaced(release / "meta" / f"{part}_indexes.csv", old, new)
    with pytest.raises(BadData, match=message):
        derm7pt(release)


def test_the_schema_of_the_release_is_the_one_that_is_read(shared: Path) -> None:
    import json

    path = shared / "data" / "schemas" / "derm7pt.json"
    if not path.is_file():
        pytest.skip("the facts about Derm7pt are not in the reference data")
    schema = json.loads(path.read_text())
    columns = schema["columns"]
    assert set(HEADER.split(",")) == set(columns)
    assert set(columns["diagnosis"]["counts"]) == set(CLASS_OF)
    for attribute in (*NOTED.values(), *CRITERIA):
        column = columns[COLUMN_OF.get(attribute.name, attribute.name)]
        assert set(attribute.categories) == set(column["counts"])
    assert schema["split_five_class"] == COUNTS
