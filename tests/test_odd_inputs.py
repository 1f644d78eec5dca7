"""Files as offices and scanners leave them: each is read right, or refused in one clear line."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.command_line import call
from tests.own_data import kidney, load, skin, volumes

Change = Callable[[Path], object]
PICTURE = "pictures/lesion1.png"
NIFTI = "MEN-001/MEN-001_t1c.nii.gz"
ARRAY = "MEN-001/MEN-001_adc.npy"


def table(old: str, new: str, encoding: str = "utf-8") -> Change:
    """Replace the first `old` in a table."""

    def change(folder: Path) -> None:
        path = folder / "lesions.csv"
        text = path.read_text()
        assert old in text
        path.write_bytes(text.replace(old, new, -1 if old == "\n" else 1).encode(encoding))

    return change


def linked(folder: Path, target: str) -> None:
    (folder / PICTURE).unlink()
    (folder / PICTURE).symlink_to(target)


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "lesions.csv", "w") as archive:
        archive.writestr("lesions.csv", "")


def piped(folder: Path) -> None:
    (folder / PICTURE).unlink()
    os.mkfifo(folder / PICTURE)


def saved(shape: tuple[int, int], mode: str = "RGB", kind: str = "PNG") -> Change:
    return lambda folder: Image.new(mode, shape).save(folder / PICTURE, kind)


def cell(place: str, value: object) -> Change:
    """Set a cell of the workbook."""

    def change(folder: Path) -> None:
        import openpyxl

        book = openpyxl.load_workbook(folder / "kidneys.xlsx")
        book.active[place] = value
        book.save(folder / "kidneys.xlsx")

    return change


def nifti(values: np.ndarray) -> Change:
    def change(folder: Path) -> None:
        import nibabel

        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / NIFTI)

    return change


def affine(value: float) -> Change:
    """Fill the affine of a volume, which no library would write."""

    def change(folder: Path) -> None:
        raw = bytearray(gzip.decompress((folder / NIFTI).read_bytes()))
        struct.pack_into("<hh", raw, 252, 0, 1)  # qform none, sform as follows
        struct.pack_into("<12f", raw, 280, *[value] * 12)
        (folder / NIFTI).write_bytes(gzip.compress(bytes(raw)))

    return change


def array(values: Any) -> Change:
    return lambda folder: np.save(folder / ARRAY, values, allow_pickle=True)


def refusal(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line with which a run ends."""
    asked = ("-m", "logistic-specialist", "--no-floor", "--folds", "0", "--quiet")
    assert call("run", "-d", str(path), *asked, "--out", str(path.parent / "results")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (table("arm", "a\0rm"), "lesions.csv, line 2: it holds NUL, as UTF-16 does; save"),
        (table("arm", "leg", "utf-16-le"), "lesions.csv, line 1: it holds NUL, as UTF-16 does;"),
        (table(",40,", ",4_0,"), "lesions.csv, line 2: age is '4_0'; it must be a number or blank"),
        (
            table(",40,", ",1e300,"),
            "line 2: age is '1e300'; it must be a number that float32 holds",
        ),
        (table(",40,", f",{'x' * 5000},"), f"line 2: age is '{'x' * 79}...; it must be a number"),
        (table(",40,", ",\N{MINUS SIGN}40,"), "line 2: age is '\N{MINUS SIGN}40'; it must be a n"),
        (table("age,sex", "age,age"), "lesions.csv: column age stands there twice; keep one"),
        (table("arm", '"arm'), "lesions.csv, line 2: no CSV (a quote opens here and"),
        (zipped, "lesions.csv: an archive or workbook, no text; an XLSX"),
        (lambda folder: linked(folder, "/etc/hostname"), "line 3: picture is 'pictures/lesion1.p"),
        (lambda folder: linked(folder, "lesion1.png"), "line 3: picture names 'pictures/lesion1."),
        (piped, "line 3: picture names 'pictures/lesion1.png', which is not in"),
        (saved((9, 9), "CMYK", "JPEG"), "line 3: picture: "),
    ],
)
def test_odd_tables_and_pictures_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, said: str
) -> None:
    path = skin(tmp_path)
    change(tmp_path)
    assert said in refusal(path, capsys)


@pytest.mark.parametrize(
    "change",
    [
        table("lesion,", "\ufefflesion,"),
        table("\n", "\r"),
        table("\n", "\r\n"),
        table("arm", '"a\nrm"'),
        saved((1, 1)),
        saved((1, 9000)),
    ],
)
def test_odd_tables_and_pictures_that_mean_one_thing_are_read(
    tmp_path: Path, change: Change
) -> None:
    path = skin(tmp_path)
    before = load(path)
    change(tmp_path)
    data = load(path)
    assert (data.cases == before.cases).all()
    assert (data.label == before.label).all()
    assert data.content["photo"].read(np.array([1])).shape == (1, 16, 16, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nifti(np.zeros((8, 8, 4, 3), np.float32)), "the volume is 4 x 8 x 8 x 3, the dataset pro"),
        (nifti(np.zeros((8, 8, 4), np.complex64)), "voxels are complex64; store plain numbers"),
        (affine(float("nan")), NIFTI),
        (affine(0.0), NIFTI),
        (array(np.array([[{}]], object)), "not a readable volume (Array can't be memory-mapped"),
        (array(np.zeros((4, 8, 8), [("a", "f4")])), "store plain numbers"),
        (array(np.full((4, 8, 8), 1e300)), "256 voxels are NaN or infinite in float32"),
        (array(np.float32(3)), "the volume is a single number, the dataset promises 4 x 8 x 8"),
    ],
)
def test_odd_volumes_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Change, said: str
) -> None:
    pytest.importorskip("nibabel")
    path = volumes(tmp_path, 12)
    change(tmp_path)
    line = refusal(path, capsys)
    assert "patients.csv, line 3: " in line
    assert said in line


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("F3", '=IF(1,"y")', 'line 3: cell F3 is the formula =IF(1,"y") without its value; open'),
        ("B3", '="carcinoma"', "line 3: cell B3 is the formula"),
        ("D3", "#DIV/0!", "line 3: creatinine is '#DIV/0!'; it must be a number or blank"),
        ("F3", True, "line 3: smoker is 'True'; it must be one of y, n or blank"),
    ],
)
def test_odd_cells_of_a_workbook_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, value: object, said: str
) -> None:
    pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    cell(place, value)(tmp_path)
    assert f"kidneys.xlsx, {said}" in refusal(path, capsys)


def test_a_formula_whose_value_is_a_blank_text_is_blank(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    cell("F3", '=IF(0,"y","")')(tmp_path)
    with zipfile.ZipFile(tmp_path / "kidneys.xlsx") as book:
        parts = {name: book.read(name) for name in book.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    assert b'<c r="F3">' in parts[sheet]
    parts[sheet] = parts[sheet].replace(b'<c r="F3">', b'<c r="F3" t="str">')  # as it is evaluated
    with zipfile.ZipFile(tmp_path / "kidneys.xlsx", "w") as book:
        for name, content in parts.items():
            book.writestr(name, content)
    assert load(path).table("history")["smoker"].isna().tolist()[:3] == [True, True, False]


def empty_chart(book: Any) -> None:
    book.create_chartsheet("First", 0)


def chart(book: Any) -> None:
    from openpyxl.chart import BarChart

    book.create_chartsheet("First", 0).add_chart(BarChart())


def blank_sheet(book: Any) -> None:
    book.create_sheet("First", 0)


def hidden_notes(book: Any) -> None:
    notes = book.create_sheet("First", 0)
    notes.append(["made by", "nobody"])
    notes.sheet_state = "hidden"


def put_first(folder: Path, make: Callable[[Any], None]) -> None:
    """Put another sheet before that of the table."""
    import openpyxl

    book = openpyxl.load_workbook(folder / "kidneys.xlsx")
    book.active.title = "Data"
    make(book)
    book.active = 1
    book.save(folder / "kidneys.xlsx")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (empty_chart, "the workbook holds a chart sheet without a chart, which cannot be read;"),
        (blank_sheet, "the first sheet is empty; move the table to the front of the workbook"),
    ],
)
def test_a_workbook_whose_first_sheet_is_no_table_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Any], None],
    said: str,
) -> None:
    pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    put_first(tmp_path, make)
    assert f"kidneys.xlsx: {said}" in refusal(path, capsys)


@pytest.mark.parametrize("make", [chart, hidden_notes])
def test_charts_and_hidden_sheets_before_the_table_are_passed_over(
    tmp_path: Path, make: Callable[[Any], None]
) -> None:
    pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    before = load(path)
    put_first(tmp_path, make)
    assert load(path).cases.tolist() == before.cases.tolist()


def test_a_sheet_is_found_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    put_first(tmp_path, blank_sheet)
    text = path.read_text()
    path.write_text(f"{text}sheet: Data\n")
    assert load(path).n_cases == 24
    path.write_text(f"{text}sheet: data\n")
    end = "sheet: no sheet of kidneys.xlsx is named 'data'; did you mean Data?"
    assert refusal(path, capsys).endswith(end)


def test_hidden_rows_are_read_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    book = openpyxl.load_workbook(tmp_path / "kidneys.xlsx")
    for row in (4, 7, 40):
        book.active.row_dimensions[row].hidden = True
    book.save(tmp_path / "kidneys.xlsx")
    assert call("prepare", str(path)) == 0
    out = capsys.readouterr().out
    assert "kidneys.xlsx, line 4: 2 rows hidden by a filter or by hand, read all the same" in out
    assert load(path).n_cases == 24


def test_merged_cells_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = kidney(tmp_path)
    book = openpyxl.load_workbook(tmp_path / "kidneys.xlsx")
    book.active.merge_cells("F3:F4")
    book.save(tmp_path / "kidneys.xlsx")
    assert call("prepare", str(path)) == 0
    assert "kidneys.xlsx: F3:F4 is merged (1 place); all but the first" in capsys.readouterr().out
