"""A dataset of one's own from one YAML file; every fault is one line with file, row and column."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.data import Dataset
from bench.dataset.csv_records import delimiter_of
from bench.datasets.manifest import ManifestConfig, OwnData
from bench.errors import BadConfig, BadData, BadRequest, BenchError
from bench.manifest.schema import SOURCES, Manifest
from bench.plugins.citations import read_cite_lines
from bench.registry import Registry
from bench.request import Request, layered
from bench.spec import Recipe
from bench.study.planning import Arena, Planner
from tests.command_line import call
from tests.own_data import kidney, load, picture, reported, skin, volumes, write_csv, write_xlsx

Rows = list[dict[str, object]]


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def read_all(data: Dataset) -> None:
    for m, modality in enumerate(data.modalities):
        source: Any = data.content[modality.name]
        if modality.kind in ("image", "volume"):
            source.read(np.flatnonzero(data.available[:, m]))


def fault(path: Path, kind: type[BenchError] = BadData) -> str:
    """Load what cannot be loaded, pictures and volumes included; return the one line said."""
    with pytest.raises(kind) as raised:
        read_all(load(path))
    said = str(raised.value)
    assert "\n" not in said
    return said


def test_pictures_and_a_table_become_cases(tmp_path: Path) -> None:
    data = load(skin(tmp_path))
    assert data.name == "skin"
    assert data.classes == ("benign", "malignant")
    assert data.modality_names == ("photo", "clinical")
    assert data.cases[:2].tolist() == ["lesion0", "lesion1"]
    assert data.label[:4].tolist() == [0, 1, 0, 1]
    assert data.available.all()
    age, sex, site = data.modalities[1].attributes
    assert (age.kind, sex.kind, sex.categories) == ("numeric", "categorical", ("female", "male"))
    assert site.kind == "categorical"
    assert data.table("clinical").iloc[2].tolist() == [42.0, "male", "leg"]
    assert data.content["photo"].read(np.array([0, 3])).shape == (2, 16, 16, 3)  # type: ignore[attr-defined]


def test_volumes_are_found_by_the_case_in_their_path(tmp_path: Path) -> None:
    data = load(volumes(tmp_path))
    assert data.modality_names == ("t1c", "flair", "adc", "clinical")
    assert data.classes == ("low", "high")
    for name in data.modality_names[:3]:
        assert data.content[name].read(np.array([1])).shape == (1, 4, 8, 8, 1)  # type: ignore[attr-defined]
    location = data.modalities[3].attributes[1]
    assert location.template == "The {name} in the brain is {value}."


def test_blank_cells_of_a_workbook_are_gaps(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    data = load(kidney(tmp_path))
    assert (~data.available).sum(0).tolist() == [0, 4, 8, 6]
    assert data.content["laboratory"][1].tolist() == [61.0, 119.0]  # type: ignore[index]
    assert data.table("history")["smoker"].iloc[1] == "no"
    assert data.table("report").iloc[1].tolist() == ["solid", "right"]


def test_more_words_for_absent_are_said_once_for_the_table(tmp_path: Path) -> None:
    path = skin(tmp_path, lambda rows: rows[3].update(age="n/a", site="?"))
    assert "line 5: age is 'n/a'" in fault(path)
    path.write_text(path.read_text() + "missing_values: [n/a, '?']\n")
    assert load(path).table("clinical").iloc[3].isna().tolist() == [True, False, True]


def test_words_that_yaml_takes_for_booleans_stay_words(tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row.update(diagnosis="yn"[k % 2])

    path = skin(tmp_path, change)
    replaced(
        path,
        "label: diagnosis",
        "label: {column: diagnosis, words: {y: yes, n: no}, classes: [no, yes]}",
    )
    assert load(path).classes == ("no", "yes")


def test_rows_of_some_labels_are_left_out(tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        rows[0].update(diagnosis="unclear")
        rows[1].update(diagnosis=None)

    path = skin(tmp_path, change)
    replaced(path, "label: diagnosis", "label: {column: diagnosis, leave_out: [unclear, '']}")
    assert load(path).n_cases == 22
    oddities = OwnData.of_file(path)().oddities(ManifestConfig(), None)
    assert oddities == ["lesions.csv: 2 rows left out for the label"]


def test_parts_and_folds_are_taken_from_columns(tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        for k, row in enumerate(rows):
            row |= {"part": ("Train", "val", "test")[k // 2 % 3], "fold": 1 + k // 2 % 4}
            rows[k] = row

    path = skin(tmp_path, change)
    path.write_text(path.read_text() + "split: part\nfolds: fold\ncolumns: [site]\n")
    replaced(path, ", site: categorical", "")
    data = load(path)
    assert data.parts is not None
    assert data.parts[:6].tolist() == ["train", "train", "valid", "valid", "test", "test"]
    assert data.folds[4][:4].tolist() == [0, 0, 1, 1]
    assert data.columns["site"][0] == "arm"
    assert OwnData.of_file(path).default_folds == 1


def test_a_column_of_folds_says_how_many_there_are(tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        for k, row in enumerate(rows):
            rows[k] = row | {"fold": k // 4 % 3}

    path = skin(tmp_path, change)
    path.write_text(path.read_text() + "folds: fold\n")
    assert Arena(Planner(Request(methods=(), datasets=(str(path),))), "skin").n_folds == 3
    path.write_text(path.read_text() + "n_folds: 4\n")
    assert "line 10: n_folds: it is 4, but column fold of" in fault(path)
    replaced(path, "n_folds: 4", "n_folds: 3")
    assert OwnData.of_file(path).default_folds == 3


def test_a_word_for_absent_is_a_blank_label(tmp_path: Path) -> None:
    path = skin(tmp_path, lambda rows: rows[0].update(diagnosis="n.a."))
    replaced(path, "label: diagnosis", "label: {column: diagnosis, leave_out: ['', bening]}")
    path.write_text(path.read_text() + "missing_values: [n.a.]\n")
    assert load(path).n_cases == 23
    assert OwnData.of_file(path)().oddities(ManifestConfig(), None) == [
        "lesions.csv: diagnosis is never 'bening', which label.leave_out names",
        "lesions.csv: 1 row left out for the label",
    ]


def test_a_modality_that_no_case_has_is_refused(tmp_path: Path) -> None:
    def change(rows: Rows) -> None:
        for row in rows:
            row.update(age=None, sex=None, site=None)

    path = skin(tmp_path, change)
    assert "line 7: modalities.clinical: it is absent in every case of" in fault(path)


def test_the_fingerprint_covers_all_files_and_not_the_title(tmp_path: Path) -> None:
    path = volumes(tmp_path)
    first = load(path).fingerprint
    path.write_text(path.read_text() + "description: meningiomas\n")
    assert load(path).fingerprint == first
    file = tmp_path / "MEN-003" / "MEN-003_adc.npy"
    np.save(file, np.load(file) + 1)
    second = load(path).fingerprint
    assert second != first
    replaced(tmp_path / "patients.csv", "skull base", "tentorium")
    assert load(path).fingerprint not in (first, second)


def test_a_manifest_is_a_dataset_by_its_own_name(tmp_path: Path) -> None:
    path = skin(tmp_path)
    path.write_text(path.read_text() + "name: lesions\nlicence: private\nrecipe: {epochs: 3}\n")
    request = Request(methods=("concat",), datasets=(str(path),))
    assert request.datasets == ("lesions",)
    assert request.include == (str(path),)
    plugin = Registry([path]).load("dataset", "lesions")
    assert (plugin.name, plugin.licence) == ("lesions", "private")
    assert Recipe(**plugin.recipe_defaults).epochs == 3
    assert [each.doc for each in Registry([path]).scan("dataset") if each.name == "lesions"] == [
        "own data (skin.yaml)"
    ]


def test_the_plugin_manifest_takes_the_file_as_a_setting(tmp_path: Path) -> None:
    path = skin(tmp_path)
    pairs = (f"manifest.file={path}", "manifest.size=8")
    asked = layered({}, {"methods": ("concat",), "datasets": ("manifest",)}, pairs)
    request = Request(**asked)
    assert request.datasets == ("skin",)
    assert request.settings["skin"] == {"size": 8}
    assert "manifest" not in request.settings
    with pytest.raises(BadRequest, match=r"none was named; say --dataset study\.yaml"):
        OwnData().load(ManifestConfig(), None)


def test_a_report_cites_own_data_as_the_manifest_says(tmp_path: Path) -> None:
    path = skin(tmp_path)
    path.write_text(path.read_text() + "citation: A. Nobody, 2020\n")
    assert any("A. Nobody, 2020" in line for line in read_cite_lines(["skin"], [path]))


def test_a_broken_manifest_is_listed_with_its_reason(tmp_path: Path) -> None:
    path = skin(tmp_path)
    path.write_text(path.read_text() + "modality: x\n")
    listing = next(each for each in Registry([path]).scan("dataset") if each.name == "skin")
    assert "line 9: modality" in listing.problem
    assert "did you mean modalities?" in listing.problem


# what the manifest says wrongly


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("size: 16", "sise: 16", "line 6: modalities.photo.sise: .* did you mean size?"),
        ("group:", "groop:", "line 4: groop: .* did you mean group?"),
        ("label: diagnosis", "label: {colum: x}", "line 3: label.colum: .*did you mean column?"),
        ("case: lesion\n", "", "the key 'case' is missing; add case: ..."),
        ("image: picture", "imagine: picture", "says one of image, volume, table, vector and rep"),
        ("age: numeric", "age: number", "line 8: .*'numeric' or 'categorical', got 'number'"),
        ("size: 16", "size: 4", "line 6: modalities.photo.size: .*greater than or equal to 8"),
        ("size: 16", "channels: 2", "channels must be 1 or 3"),
        ("  photo:", "  a+b:", "'a[+]b' cannot name a modality"),
        ("modalities:", "name: A b\nmodalities:", "lower-case words of letters and digits"),
        ("case: lesion", "case: lesion\ncase: x", "line 1: the key 'case' stands there twice"),
        ("case: lesion", "case: [lesion", "line 3: not YAML"),
        ("case: lesion", "case: &x lesion\nsplit: *x", "references"),
        ("case: lesion", "case: !!python/name:os.system lesion", "line 2: not YAML"),
        ("group: patient", "templates: {age: '{age}'}", "must hold {value}"),
        ("group: patient", "n_folds: one", "line 4: n_folds: input should be a valid integer"),
        ("{image: picture, size: 16}", "{volume: v, shape: 4x8x8}", "shape: it must be a list, "),
        ("{image: picture, size: 16}", "{vector: [age, age]}", "vector: a column is named twice"),
        (
            "  clinical:",
            "  again: {image: picture}\n  clinical:",
            "two modalities take the files of ",
        ),
        ("table: lesions.csv", "table: [lesions.csv]", "line 1: table: it must be a word"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = skin(tmp_path)
    replaced(path, old, new)
    assert re.search(said, fault(path, BadConfig))
    assert str(path) in fault(path, BadConfig)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("label: diagnosis", "label: diagnosys", "line 3: label: .*did you mean diagnosis?"),
        ("image: picture", "image: pictures", "line 6: modalities.photo.image: .*mean picture?"),
        ("{age: numeric", "{agee: numeric", "line 8: modalities.clinical.table.agee: .*mean age?"),
        ("{age: numeric", "{'lab_*': numeric", "no column of .*lesions.csv fits 'lab_[*]'"),
        ("group: patient", "split: sex", "line 2: sex is 'f'; it must be one of train"),
        ("group: patient", "folds: age", "has the folds 40, 41"),
        ("group: patient", "folds: sex", "line 2: sex is 'f'; it must be the number of a fold"),
        ("group: patient", "leaks: [agee]", "leaks.agee: no column of .* did you mean age?"),
        ("group: patient", "templates: {agee: 'A {value}'}", "templates.agee: .* mean age?"),
        ("group: patient", "encoding: utf-16", "lesions.csv: not UTF-16, as the manifest says; ta"),
        ("group: patient", "sheet: first", "line 4: sheet: lesions.csv is no XLSX and has no sh"),
        ("group: patient", "columns: place", "no column of lesions.csv is named 'place'"),
        ("age: numeric", "diagnosis: categorical", "is the label and cannot be an input"),
        ("age: numeric", "lesion: categorical", "is the name of the case and cannot"),
        ("site: categorical", "site: [arm, leg]", "line 3: site is 'back'; .*one of arm, leg or b"),
        ("site: categorical", "site: numeric", "line 2: site is 'arm'; it must be a number"),
        ("lesions.csv", "lesion.csv", "line 1: table: 'lesion.csv' is not in"),
        ("lesions.csv", "skin.yaml", "line 1: table: skin.yaml is neither CSV nor XLSX"),
        ("label: diagnosis", "label: {column: diagnosis, classes: [benign, melanoma]}", "line 3: "),
    ],
)
def test_what_the_table_does_not_have_is_named_with_the_nearest(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = skin(tmp_path)
    replaced(path, old, new)
    assert re.search(said, fault(path))


# what the table holds wrongly


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lesion": "lesion1"}, r"lesions.csv, line 6: lesion is 'lesion1'; it must be there once"),
        ({"lesion": None}, r"lesions.csv, line 6: lesion is blank"),
        ({"diagnosis": None}, r"lesions.csv, line 6: diagnosis is blank"),
        ({"diagnosis": "rare"}, r"lesions.csv, line 6: diagnosis is 'rare', the only case of clas"),
        ({"patient": None}, r"lesions.csv, line 6: patient is blank"),
        ({"age": "NaN"}, r"lesions.csv, line 6: age is 'NaN'; it must be a finite number or blank"),
        ({"age": "inf"}, r"lesions.csv, line 6: age is 'inf'; it must be a finite number or blank"),
        ({"age": "4,5"}, r"lesions.csv, line 6: 8 cells under 7 columns"),
        ({"age": '"4,5"'}, r"lesions.csv, line 6: age is '4,5'; it must be a number"),
        ({"picture": "../secret.png"}, r"line 6: picture is '../secret.png'; .*a path inside"),
        ({"picture": "/etc/passwd"}, r"line 6: picture is '/etc/passwd'; it must be a path inside"),
        ({"picture": "pictures/no.png"}, r"line 6: picture names 'pictures/no.png', which is not"),
        ({"picture": "pictures"}, r"line 6: picture names 'pictures', which is not in"),
        ({"picture": "x" * 5000}, r"line 6: picture is 'x+\.\.\.; it must be a path"),
        ({"picture": "a\0b"}, r"line 6: it holds NUL"),
        ({"picture": None, "age": None, "sex": None, "site": None}, r"line 6: case 'lesion4' has"),
    ],
)
def test_a_wrong_cell_is_named_with_its_line(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = skin(tmp_path, lambda rows: rows[4].update(change))
    assert re.search(said, fault(path))


def test_labels_between_blanks_are_read_and_told(tmp_path: Path) -> None:
    path = skin(tmp_path, lambda rows: rows[5].update(diagnosis=" malignant  "))
    assert load(path).classes == ("benign", "malignant")
    assert OwnData.of_file(path)().oddities(ManifestConfig(), None) == [
        "lesions.csv, line 7: diagnosis has blanks around it, read without them (1 cells)"
    ]


def test_what_the_header_holds_most_of_parts_the_cells(tmp_path: Path) -> None:
    path = skin(tmp_path)
    table = tmp_path / "lesions.csv"
    text = table.read_text().replace(",", ";").replace("site", "site, as written")
    table.write_text(f"\n;;;\n{text}")
    replaced(path, "site: categorical", "'site, as written': categorical")
    assert load(path).n_cases == 24
    said = ["lesions.csv: cells are parted by semicolons"]
    assert OwnData.of_file(path)().oddities(ManifestConfig(), None) == said


@pytest.mark.parametrize(
    ("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "pipes")]
)
def test_other_delimiters_are_read_and_told(tmp_path: Path, delimiter: str, name: str) -> None:
    path = skin(tmp_path)
    table = tmp_path / "lesions.csv"
    table.write_text(table.read_text().replace(",", delimiter))
    assert load(path).n_cases == 24
    assert OwnData.of_file(path)().oddities(ManifestConfig(), None) == [
        f"lesions.csv: cells are parted by {name}"
    ]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;;;;;;"])
def test_a_first_line_that_declares_the_delimiter_is_no_header(tmp_path: Path, first: str) -> None:
    path = skin(tmp_path)
    table = tmp_path / "lesions.csv"
    text = table.read_text().replace(",", ";").replace("site", "site, a, b, c, d, e, f, g")
    table.write_text(f"{first}\r\n{text}")
    replaced(path, "site: categorical", "'site, a, b, c, d, e, f, g': categorical")
    assert load(path).n_cases == 24
    assert OwnData.of_file(path)().oddities(ManifestConfig(), None) == [
        "lesions.csv: cells are parted by semicolons"
    ]
    table.write_text(f"{first}\r\n{text.replace(';40;', ';forty;')}")
    assert "lesions.csv, line 3: age is 'forty'; it must be a number" in fault(path)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("id,a|b|c|d,y\nx,1,0\n", ","),
        ("id|place, date|y\nx|1|0\n", "|"),
        ('id;"a, b, c";y\nx;1,5;0\n', ";"),
        ("id y\nx 0\n", ","),
        ("sep=\t\nid\ty,z,a\n", "\t"),
        ("sep=\\t\nid\ty\n", "\t"),
        ("sep=#\nid#y\n", "#"),
        ("sep=", ","),
        ("", ","),
    ],
)
def test_what_parts_the_cells_parts_those_of_the_second_line_too(text: str, delimiter: str) -> None:
    assert delimiter_of(text) == delimiter


def test_a_delimiter_that_is_not_clear_is_refused_in_one_line(tmp_path: Path) -> None:
    path = skin(tmp_path)
    table = tmp_path / "lesions.csv"
    table.write_text(table.read_text().replace(",", ":"))
    assert "no column of lesions.csv is named 'diagnosis'; known: lesion:pat" in fault(path)


def test_an_encoding_that_cannot_be_told_is_refused_until_it_is_named(tmp_path: Path) -> None:
    path = skin(tmp_path, lambda rows: rows[2].update(site="Rücken"))
    table = tmp_path / "lesions.csv"
    text = table.read_text()
    table.write_bytes(text.encode("cp1252"))
    assert "lesions.csv, line 4: not UTF-8; save the file as UTF-8" in fault(path)
    path.write_text(path.read_text() + "encoding: cp1252\n")
    assert load(path).table("clinical")["site"].iloc[2] == "Rücken"
    table.write_bytes(text.encode("utf-16"))
    replaced(path, "encoding: cp1252\n", "")
    assert load(path).table("clinical")["site"].iloc[2] == "Rücken"


# pictures and volumes that cannot be used


def deep(path: Path) -> None:
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(path)


def transparent(path: Path) -> None:
    Image.new("RGBA", (8, 8), (1, 2, 3, 99)).save(path)


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), (k, k, k)) for k in (10, 200)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])
    path.with_suffix(".gif").rename(path)


def truncated(path: Path) -> None:
    picture(path, 99, (64, 64))
    path.write_bytes(path.read_bytes()[:2000])


def a_text(path: Path) -> None:
    path.write_text("no picture")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (deep, "more than 8 bits per channel"),
        (transparent, "has transparency"),
        (animated, "holds several frames"),
        (truncated, "not a readable picture"),
        (a_text, "not a readable picture"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named_with_its_row(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    path = skin(tmp_path)
    spoil(tmp_path / "pictures" / "lesion7.png")
    line = fault(path)
    assert re.search(r"lesions.csv, line 9: picture: .*lesion7.png: ", line)
    assert said in line


def test_a_picture_beyond_the_pixel_limit_is_named_with_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = skin(tmp_path)
    picture(tmp_path / "pictures" / "lesion7.png", 50, (40, 40))
    monkeypatch.setattr("bench.pictures.MAX_PIXELS", 1000)
    assert re.search(r"line 9: picture: .*lesion7.png: the picture has 40 x 40 pixels", fault(path))


@pytest.mark.parametrize(
    ("voxels", "said"),
    [
        (np.zeros((4, 8, 9), np.float32), "the volume is 4 x 8 x 9, the dataset promises 4 x 8 x"),
        (np.full((4, 8, 8), np.nan, np.float32), "256 voxels are NaN or infinite"),
        (np.full((4, 8, 8), -np.inf, np.float32), "256 voxels are NaN or infinite"),
        (np.zeros((4, 8, 8), "U3"), "store plain numbers"),
        (np.full((4, 8, 8), None), "not a readable volume"),
    ],
    ids=["shape", "nan", "infinity", "text", "objects"],
)
def test_a_volume_that_cannot_be_used_is_named_with_its_row(
    tmp_path: Path, voxels: np.ndarray, said: str
) -> None:
    path = volumes(tmp_path, 6)
    np.save(tmp_path / "MEN-002" / "MEN-002_adc.npy", voxels, allow_pickle=True)
    line = fault(path)
    assert re.search(r"patients.csv, line 4: \{case\}/\{case\}_adc.npy: .*MEN-002_adc.npy: ", line)
    assert said in line


# files and folders


def test_missing_files_are_a_fault_or_absent(tmp_path: Path) -> None:
    path = skin(tmp_path)
    (tmp_path / "pictures" / "lesion3.png").unlink()
    assert "line 5: picture names 'pictures/lesion3.png', which is not in" in fault(path)
    assert "1 of 24 files are missing" in fault(path)
    assert not load(path, missing_files="absent").available[3, 0]
    path.write_text(path.read_text() + "missing_files: absent\n")
    assert load(path).available[:, 0].sum() == 23


def test_an_empty_folder_of_pictures_is_always_a_fault(tmp_path: Path) -> None:
    path = skin(tmp_path)
    for each in (tmp_path / "pictures").iterdir():
        each.unlink()
    path.write_text(path.read_text() + "missing_files: absent\n")
    assert "24 of 24 files are missing" in fault(path)


def test_a_link_out_of_the_data_root_is_refused_unless_said(tmp_path: Path) -> None:
    path = skin(tmp_path / "study")
    outside = tmp_path / "outside.png"
    picture(outside, 77)
    inside = tmp_path / "study" / "pictures" / "lesion0.png"
    inside.unlink()
    inside.symlink_to(outside)
    assert re.search("line 2: picture is 'pictures/lesion0.png'; .*links followed", fault(path))
    path.write_text(path.read_text() + "allow_outside: true\n")
    assert load(path).n_cases == 24


def test_a_table_out_of_the_data_root_is_refused(tmp_path: Path) -> None:
    path = skin(tmp_path / "study")
    (tmp_path / "study" / "lesions.csv").rename(tmp_path / "lesions.csv")
    replaced(path, "lesions.csv", "../lesions.csv")
    assert "'../lesions.csv' leaves the data root" in fault(path)


def test_a_data_root_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"no folder is at '.*gone'; check --data-root"):
        load(skin(tmp_path), tmp_path / "gone")


def test_a_folder_or_a_table_in_place_of_a_dataset_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skin(tmp_path)
    for path in (tmp_path, tmp_path / "lesions.csv"):
        assert call("prepare", str(path)) == 2
        assert "is neither a dataset's name nor a .yaml that desc" in capsys.readouterr().err


def test_a_data_root_may_lie_elsewhere_and_move(tmp_path: Path) -> None:
    path = skin(tmp_path / "study")
    moved = tmp_path / "skin.yaml"
    path.rename(moved)
    assert "give its folder with --data-root" in fault(moved)
    first = load(moved, tmp_path / "study").fingerprint
    (tmp_path / "study").rename(tmp_path / "other")
    assert load(moved, tmp_path / "other").fingerprint == first


def test_a_workbook_that_unfolds_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    monkeypatch.setattr("bench.dataset.workbooks.MAX_TABLE_BYTES", 2000)
    assert re.search(r"kidneys.xlsx: the table has \d+ bytes, unpacked, and the limit", fault(path))


def test_a_table_with_too_many_bytes_or_columns_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = skin(tmp_path)
    monkeypatch.setattr("bench.dataset.tables.MAX_COLUMNS", 6)
    assert "lesions.csv: the table has 7 columns and the limit is 6" in fault(path)
    monkeypatch.setattr("bench.dataset.tables.MAX_TABLE_BYTES", 100)
    assert "bytes, unpacked, and the limit is 100" in fault(path)


def test_a_vector_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    rows: Rows = [
        {"id": k, "y": k % 2, "gene_a": k, "gene_b": None if k == 3 else 2 * k} for k in range(8)
    ]
    write_csv(tmp_path / "t.csv", rows)
    path = tmp_path / "genes.yaml"
    path.write_text("table: t.csv\ncase: id\nlabel: y\nmodalities: {genes: {vector: 'gene_*'}}\n")
    assert "line 5: gene_b is blank; it must be filled, as the case has other" in fault(path)
    rows[3]["gene_b"] = "1e300"
    write_csv(tmp_path / "t.csv", rows)
    assert "line 5: gene_b is '1e300'; it must be a number that float32 holds" in fault(path)
    rows[3]["gene_b"] = 6
    write_csv(tmp_path / "t.csv", rows)
    assert load(path).modalities[0].width == 2


RULES = (
    "{report: report, rules: {side: {values: [left, right]}, "
    "border: {values: {smooth: [smooth, even], irregular: [irregular]}}}}"
)


def test_rules_find_attributes_in_a_report_and_never_guess(tmp_path: Path) -> None:
    path = reported(tmp_path)
    replaced(path, "{report: report}", RULES)
    table = tmp_path / "reports.csv"
    replaced(table, "Lesion of the left hand, smooth border.", "Lesion.")
    data = load(path)
    side, border = data.modalities[1].attributes
    assert (side.name, side.categories) == ("side", ("left", "right"))
    assert border.categories == ("smooth", "irregular")
    assert data.table("report").iloc[1].tolist() == ["left", "smooth"]
    assert data.available[:2, 1].tolist() == [False, True]
    assert data.table("report").iloc[0].isna().all()


def test_attributes_of_a_report_can_be_corrected(tmp_path: Path) -> None:
    path = reported(tmp_path)
    replaced(path, "{report: report}", RULES.replace("rules:", "corrected: right.csv, rules:"))
    right = tmp_path / "right.csv"
    right.write_text("case,side\nphoto1,right\n")
    data = load(path)
    assert data.table("report")["side"].iloc[:2].tolist() == ["left", "right"]
    assert right in data.files
    right.write_text("case,side\nphoto1,left\n")
    assert load(path).fingerprint != data.fingerprint
    right.write_text("case,side\nphoto1,up\n")
    assert "right.csv, line 2: side is 'up'; it must be one of left, right or blank" in fault(path)
    replaced(path, "right.csv", "../right.csv")
    assert "'../right.csv' leaves the data root" in fault(path)


def test_rules_that_cannot_be_used_are_named_with_their_line(tmp_path: Path) -> None:
    path = reported(tmp_path)
    replaced(path, "{report: report}", "{report: report, rules: {side: {valeus: [left]}}}")
    assert "line 7: modalities.report.rules: rules.side" in fault(path, BadConfig)
    replaced(path, "rules: {side: {valeus: [left]}}", "corrected: right.csv")
    assert "model and corrected need rules" in fault(path, BadConfig)


def test_a_column_serves_one_modality(tmp_path: Path) -> None:
    path = skin(tmp_path)
    path.write_text(path.read_text() + "  more: {table: [age]}\n")
    assert "column age is named twice" in fault(path)


def test_workbooks_name_their_row(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    rows: Rows = [{"id": k, "y": k % 2, "a": "x" if k == 3 else 0.5} for k in range(8)]
    write_xlsx(tmp_path / "t.xlsx", rows)
    path = tmp_path / "one.yaml"
    path.write_text("table: t.xlsx\ncase: id\nlabel: y\nmodalities: {t: {table: {a: numeric}}}\n")
    assert "t.xlsx, line 5: a is 'x'; it must be a number or blank" in fault(path)
    (tmp_path / "t.xlsx").write_bytes(b"PK no workbook")
    assert "t.xlsx: no readable XLSX" in fault(path)


@pytest.mark.skipif(os.name != "posix", reason="rights of files are those of POSIX")
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "no.yaml cannot be read (No such file" in fault(tmp_path / "no.yaml", BadConfig)
    (tmp_path / "list.yaml").write_text("- a\n")
    assert "a manifest is a mapping" in fault(tmp_path / "list.yaml", BadConfig)
    (tmp_path / "word.yaml").write_bytes(b"\xff\xfe\x00a")
    assert "not UTF-8" in fault(tmp_path / "word.yaml", BadConfig)


GUIDE = Path(__file__).parents[1] / "docs" / "manifest.md"


@pytest.mark.parametrize(
    ("place", "make", "names", "n_available"),
    [
        (0, volumes, ("T1C", "FLAIR-C", "ADC", "clinical"), [24, 24, 24, 24]),
        (1, kidney, ("ct", "report", "laboratory", "history"), [24, 20, 16, 18]),
        (2, skin, ("photo", "clinical"), [24, 24]),
    ],
)
def test_the_guide_shows_manifests_that_load(
    tmp_path: Path,
    place: int,
    make: Callable[[Path], Path],
    names: tuple[str, ...],
    n_available: list[int],
) -> None:
    pytest.importorskip("openpyxl")
    path = make(tmp_path)
    text = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[place]
    path.write_text(text.replace("[24, 128, 128]", "[4, 8, 8]"))
    data = load(path)
    assert data.name == path.stem
    assert data.modality_names == names
    assert data.available.sum(axis=0).tolist() == n_available
    read_all(data)


def test_the_guide_names_every_key() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    keys = [
        *Manifest.model_fields,
        *(key for each in SOURCES.values() for key in each.model_fields),
    ]
    assert [key for key in keys if f"`{key}`" not in text and f"{key}:" not in text] == []
