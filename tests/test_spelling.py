"""A name is the same whether é is one letter or two, as a Mac writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from bench.errors import BadData
from bench.manifest.proposal import new_dataset
from tests.own_data import load, picture, write_csv, write_xlsx

Form = Literal["NFC", "NFD"]
FORMS: list[tuple[Form, Form]] = [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")]


def eyes(folder: Path, disk: Form, table: Form, *, suffix: str = ".csv") -> Path:
    """Write pictures and a table in two forms of Unicode; return the manifest, in the table's."""
    rows: list[dict[str, object]] = []
    for k in range(8):
        picture(folder / normalize(disk, f"Läsionen/Zoé{k}.png"), 40 + k)
        row = {"Fall": f"Zoé{k}", "Größe ä": 5 + k, "label": ("bénin", "malin")[k % 2]}
        rows.append({normalize(table, key): normalize(table, str(v)) for key, v in row.items()})
    write = write_xlsx if suffix == ".xlsx" else write_csv
    write(folder / normalize(disk, f"Fälle{suffix}"), rows)
    manifest = folder / "eyes.yaml"
    text = (
        f"table: Fälle{suffix}\ncase: Fall\nlabel: {{column: label, classes: [bénin, malin]}}\n"
        "modalities:\n  photo: {image: 'Läsionen/{case}.png', size: 16}\n"
        "  clinical: {table: {Größe ä: numeric}}\n"
    )
    manifest.write_text(normalize(table, text))
    return manifest


@pytest.mark.parametrize(("disk", "table"), FORMS)
@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_files_are_found_in_either_form(
    tmp_path: Path, disk: Form, table: Form, suffix: str
) -> None:
    if suffix == ".xlsx":
        pytest.importorskip("openpyxl")
    data = load(eyes(tmp_path, disk, table, suffix=suffix))
    assert data.available.all()
    assert data.classes == ("bénin", "malin")
    assert data.cases[0] == normalize("NFC", "Zoé0")


@pytest.mark.parametrize(("disk", "table"), FORMS)
def test_files_are_proposed_in_either_form(tmp_path: Path, disk: Form, table: Form) -> None:
    eyes(tmp_path, disk, table).unlink()
    path = new_dataset(tmp_path, tmp_path / "out", [])
    assert normalize("NFC", '{image: "Läsionen/{case}.png"') in path.read_text()
    assert load(path, tmp_path).available.all()


@pytest.mark.parametrize("cell", ["e{}.png", "e{}"])
def test_files_of_a_column_are_proposed_in_either_form(tmp_path: Path, cell: str) -> None:
    rows: list[dict[str, object]] = []
    for k in range(6):
        picture(tmp_path / normalize("NFD", f"Bilder ü/é{k}.png"), 40 + k)
        rows.append({"nr": k, "eye": cell.replace("e", "é").format(k), "class": "ab"[k % 2]})
    write_csv(tmp_path / "eyes.csv", rows)
    assert load(new_dataset(tmp_path, None, [])).available.all()


def test_two_files_of_one_name_are_refused_with_both_names(tmp_path: Path) -> None:
    path = eyes(tmp_path, "NFC", "NFC")
    picture(tmp_path / "Läsionen" / normalize("NFD", "Zoé3.png"), 9)
    with pytest.raises(BadData) as caught:
        load(path)
    said = str(caught.value)
    assert normalize("NFC", "Fälle.csv, line 5: Läsionen/{case}.png: ") in said
    assert r"Läsionen holds 'Zoe\u03013.png' and 'Zo\xe93.png', one name in two forms" in said


def test_two_tables_of_one_name_are_refused(tmp_path: Path) -> None:
    path = eyes(tmp_path, "NFC", "NFC")
    (tmp_path / normalize("NFD", "Fälle.csv")).write_text("a\n1\n")
    with pytest.raises(BadData, match="one name in two forms of Unicode; rename or remove one"):
        load(path)


def test_a_class_in_two_forms_is_one_class_and_a_case_is_there_twice(tmp_path: Path) -> None:
    path = eyes(tmp_path, "NFC", "NFC")
    path.write_text(path.read_text().replace("{column: label, classes: [bénin, malin]}", "label"))
    table = tmp_path / "Fälle.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:3], normalize("NFD", lines[3]), *lines[4:]]))
    assert load(path).classes == ("bénin", "malin")
    table.write_text("\n".join([*lines, normalize("NFD", lines[3])]))
    with pytest.raises(BadData, match=r"line 10: Fall is 'Zoé2'; it must be there once only"):
        load(path)


def test_a_column_that_stands_there_in_two_forms_is_refused(tmp_path: Path) -> None:
    path = eyes(tmp_path, "NFC", "NFC")
    table = tmp_path / "Fälle.csv"
    table.write_text(table.read_text().replace("Fall", normalize("NFD", "Größe ä"), 1))
    with pytest.raises(BadData, match="column Größe ä stands there twice"):
        load(path)


def test_a_sheet_is_found_in_either_form(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    path = eyes(tmp_path, "NFC", "NFC", suffix=".xlsx")
    book = openpyxl.load_workbook(tmp_path / "Fälle.xlsx")
    book.active.title = normalize("NFD", "Prüfung")
    book.save(tmp_path / "Fälle.xlsx")
    path.write_text(path.read_text() + normalize("NFC", "sheet: Prüfung\n"))
    assert load(path).n_cases == 8
