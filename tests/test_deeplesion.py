"""DeepLesion on a small release of our own, in the layout and with the quirks of the real one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import Dataset, Split
from bench.datasets.deeplesion import (
    BINNED,
    COLUMNS,
    COORDINATES,
    PLUGIN,
    TYPES,
    DeepLesion,
    DeepLesionConfig,
    windowed,
)
from bench.encoders.picture_cache import PictureCache, read_pictures
from bench.errors import BadData, BadRequest
from bench.leakscan import scan
from bench.spec import Recipe
from bench.splits import make_split

HEADER = (
    "File_name,Patient_index,Study_index,Series_ID,Key_slice_index,Measurement_coordinates,"
    "Bounding_boxes,Lesion_diameters_Pixel_,Normalized_lesion_location,Coarse_lesion_type,"
    "Possibly_noisy,Slice_range,Spacing_mm_px_,Image_size,DICOM_windows,Patient_gender,"
    "Patient_age,Train_Val_Test"
)
LOCATION = "0.10, 0.60, 0.95"
# file, type, noisy, location, windows, gender, age, part; the second slice has two lesions
LESIONS = (
    ("000001_01_01_109", -1, 0, LOCATION, "-175, 275", "F", 62, 1),
    ("000002_01_01_014", 3, 0, "0.50, 0.20, 0.30", "-1500, 500", "M", 50, 2),
    ("000002_01_01_014", 5, 0, "0.99, 1.20, -0.01", "-1500, 500", "M", 50, 2),
    ("000003_02_01_007", 8, 1, LOCATION, "-177.5, 307.5", "", 61, 3),
    ("000004_01_02_100", 2, 0, "", "-160, 240", "F", "", 3),
)
CASES = [
    "000002_01_01_014-1",
    "000002_01_01_014-2",
    "000003_02_01_007-1",
    "000004_01_02_100-1",
]


def line(lesion: tuple[object, ...]) -> str:
    name, code, noisy, location, windows, gender, age, part = lesion
    patient, study, series, slice_index = (int(each) for each in str(name).split("_"))
    return (
        f'{name}.png,{patient},{study},{series},{slice_index},"226.1, 90.0, 241.4, 111.9, 228.2, '
        f'109.1, 243.7, 91.2","220.5, 85.25, 246, 116","25.5, 20.25","{location}",{code},{noisy},'
        f'"103, 115","0.8, 0.8, 5","512, 512","{windows}",{gender},{age},{part}'
    )


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Write a small release; a slice is -1000 Hounsfield units on the left and 65 on the right."""
    root = tmp_path / "deeplesion"
    root.mkdir()
    (root / "DL_info.csv").write_text("\n".join([HEADER, *map(line, LESIONS)]) + "\n")
    values = np.full((20, 30), 32768 - 1000, np.uint16)
    values[:, 15:] = 32768 + 65
    for name, *_ in LESIONS[1:]:
        folder, _, index = name.rpartition("_")
        path = root / "Images_png" / folder / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return root


def deeplesion(root: Path, **config: object) -> Dataset:
    return DeepLesion().load(DeepLesionConfig.model_validate({"size": 8, **config}), root)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_what_it_declares_fits_the_recipe() -> None:
    assert PLUGIN is DeepLesion
    assert Recipe(**DeepLesion.recipe_defaults).epochs == 15
    assert {each.name for each in DeepLesionConfig().attributes if each.leak} == {"location"}
    assert all(each.leak for each in COORDINATES)
    assert len(set(BINNED.categories)) == 30


def test_labelled_lesions_become_cases_grouped_by_patient(release: Path) -> None:
    data = deeplesion(release.parent)
    assert data.cases.tolist() == CASES
    assert np.array(TYPES)[data.label].tolist() == ["mediastinum", "lung", "pelvis", "abdomen"]
    assert data.classes == TYPES
    assert data.group.tolist() == ["2", "2", "3", "4"]
    assert data.columns["possibly_noisy"].tolist() == ["0", "0", "1", "0"]
    boxes = np.stack([data.columns[f"box_{each}"] for each in ("x1", "y1", "x2", "y2")], axis=1)
    assert boxes.tolist() == [[220.5, 85.25, 246, 116]] * 4


def test_lesions_without_a_type_are_left_out_and_keep_their_number(release: Path) -> None:
    replaced(release / "DL_info.csv", ",3,0,", ",-1,0,")
    assert deeplesion(release).cases.tolist() == CASES[1:]


def test_one_fold_tests_on_the_official_test_part(release: Path) -> None:
    data = deeplesion(release)
    assert data.parts is not None
    assert data.parts.tolist() == ["train", "train", "test", "test"]
    replaced(release / "DL_info.csv", ",3\n", ",2\n")
    data = deeplesion(release)
    assert data.parts is None
    with pytest.raises(BadRequest, match="no official fixed split"):
        make_split(data, 0, 1, 0, 0.2)


def test_lesions_of_one_slice_share_its_file(release: Path) -> None:
    data = deeplesion(release)
    paths = data.content["slice"].paths  # type: ignore[attr-defined]
    assert paths[0] == paths[1] == release / "Images_png" / "000002_01_01" / "014.png"
    assert len(data.files) == 1 + 3


def test_a_slice_that_two_patients_share_is_named_by_the_leak_scan(release: Path) -> None:
    data = deeplesion(release)
    fitted, tested = (np.flatnonzero(data.parts == part) for part in ("train", "test"))
    (fault,) = scan(data, [Split(fitted, fitted[:0], tested)]).split_faults
    assert fault == "fold 0: in training and test alike: 1 picture of slice"


def test_a_slice_is_shown_in_its_window(release: Path) -> None:
    data = deeplesion(release)
    pixels = data.content["slice"].read(np.arange(4))  # type: ignore[attr-defined]
    assert pixels.shape == (4, 8, 8, 1)
    assert pixels.dtype == np.uint8
    left, right = pixels[:, 4, 0, 0].tolist(), pixels[:, 4, 7, 0].tolist()
    assert left == [round(500 / 2000 * 255)] * 2 + [0, 0]  # -1000 in [-1500, 500]; cut off
    assert right[0] == round(1565 / 2000 * 255)
    assert right[2] == round(242.5 / 485 * 255)  # 65 in [-177.5, 307.5], half of the way
    assert right[3] == round(225 / 400 * 255)
    assert data.content["slice"].read(np.array([], int)).shape == (0, 8, 8, 1)  # type: ignore[attr-defined]


def test_decoded_slices_are_kept_like_other_pictures(release: Path) -> None:
    data = deeplesion(release)
    rows = np.arange(4)
    first, again = PictureCache(on_disk=True), PictureCache(on_disk=True)
    pixels = read_pictures(data, data.modalities[0], rows, first)
    same = deeplesion(release)
    assert (read_pictures(same, same.modalities[0], rows, again) == pixels).all()
    assert (first.n_decoded, again.n_decoded) == (4, 0)


def test_a_location_is_one_attribute_or_three_numbers(release: Path) -> None:
    table = deeplesion(release).table("table")
    assert list(table.columns) == ["age", "sex", "location", "size"]
    assert table["location"].tolist()[:3] == [
        "x 2/3, y 1/2, z 2/5",
        "x 3/3, y 2/2, z 1/5",  # outside of 0 to 1: the outermost box
        "x 1/3, y 2/2, z 5/5",
    ]
    table = deeplesion(release, location="coordinates").table("table")
    names = [each.name for each in COORDINATES]
    assert list(table.columns) == ["age", "sex", *names, "size"]
    assert table[names].iloc[0].tolist() == [0.5, 0.2, 0.3]


def test_size_is_the_long_diameter_in_millimetres(release: Path) -> None:
    assert deeplesion(release).table("table")["size"].tolist() == pytest.approx([25.5 * 0.8] * 4)


def test_blank_cells_are_absent(release: Path) -> None:
    table = deeplesion(release).table("table")
    assert table["sex"].tolist()[:2] == ["male", "male"]
    assert table.isna().to_numpy().tolist() == [
        [False, False, False, False],
        [False, False, False, False],
        [False, True, False, False],
        [True, False, True, False],
    ]
    replaced(release / "DL_info.csv", "0.50, 0.20, 0.30", "NaN, NaN, NaN")
    assert deeplesion(release).table("table")["location"].isna().tolist()[0]


def test_missing_slices_are_an_error_or_absent(release: Path) -> None:
    (release / "Images_png" / "000003_02_01" / "007.png").unlink()
    name = os.path.join("Images_png", "000003_02_01", "007.png")
    with pytest.raises(BadData, match=f"DL_info.csv: 1 of 4 files .*: {name}; complete"):
        deeplesion(release)
    data = deeplesion(release, missing_files="absent")
    assert data.available.tolist() == [[True, True]] * 2 + [[False, True], [True, True]]


def test_slices_of_eight_bits_are_refused(release: Path) -> None:
    path = release / "Images_png" / "000003_02_01" / "007.png"
    Image.new("L", (9, 9)).save(path)
    with pytest.raises(BadData, match=r"007.png: the picture is L; 16-bit grey is wanted"):
        windowed(path, (0, 1), 8)
    with pytest.raises(ValueError, match="has no slice"):
        windowed(None, (0, 1), 8)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "000001_01_01_109",
            "../109",
            r"line 2: File_name is '../109.png'; it must be of the form",
        ),
        (",5,0,", ",9,0,", "line 4: Coarse_lesion_type is '9'; it must be one of -1, 1, 2"),
        (",50,2", ",50,4", "line 3: Train_Val_Test is '4'"),
        ("-160, 240", "240, -160", "line 6: DICOM_windows is '240, -160'; .*numbers that go up"),
        ("-160, 240", "-160", "line 6: DICOM_windows is '-160'; it must be 2 numbers parted"),
        ("-160, 240", "nan, 240", "line 6: DICOM_windows is 'nan, 240'"),
        ("0.50, 0.20, 0.30", "0.5, x, 1", "line 3: Normalized_lesion_location is '0.5, x, 1'"),
        ("220.5, 85.25, 246, 116", "", "line 3: Bounding_boxes is blank; it must be 4 numbers"),
        ('500",M', '500",m', "line 3: Patient_gender is 'm'; it must be one of F, M or blank"),
        ("M,50", "M,old", "line 3: Patient_age is 'old'"),
        (",DICOM_windows", ",Windows", "column DICOM_windows is missing"),
    ],
)
def test_cells_that_break_the_promise_are_named(
    release: Path, old: str, new: str, message: str
) -> None:
    replaced(release / "DL_info.csv", old, new)
    with pytest.raises(BadData, match=message):
        deeplesion(release)


def test_a_release_without_a_single_type_is_refused(release: Path) -> None:
    (release / "DL_info.csv").write_text("\n".join([HEADER, line(LESIONS[0])]) + "\n")
    with pytest.raises(BadData, match="no lesion has a type, all are -1"):
        deeplesion(release)


def test_the_columns_are_those_of_the_release(shared: Path) -> None:
    import json

    path = shared / "data" / "schemas" / "deeplesion.json"
    if not path.is_file():
        pytest.skip("the facts about DeepLesion are not in the reference data")
    schema = json.loads(path.read_text())
    assert HEADER.split(",") == schema["columns"]
    assert set(COLUMNS) <= set(schema["columns"])
