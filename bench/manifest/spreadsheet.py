"""The table of a manifest: CSV or XLSX as offices write them, and what was odd in it."""

# N cases

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.dataset import bad_cell, read_table, unique_names
from bench.dataset.csv_records import DELIMITERS, csv_records, delimiter_of
from bench.dataset.tables import composed, read_text
from bench.dataset.workbooks import form_of, read_sheet
from bench.errors import BadData, UnknownName, unknown
from bench.manifest.reading import ManifestFile
from bench.wording import counted, listed

if TYPE_CHECKING:
    import pandas as pd

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Sheet:
    """The rows of a table that are cases, as text, NaN where absent."""

    file: ManifestFile
    path: Path
    rows: pd.DataFrame  # index: line of the file
    left_out: tuple[str, ...] = ()  # the label of each row that is not taken
    labelled: bool = True  # otherwise to be predicted, and all of them may lack a modality

    @property
    def source(self) -> str:
        """The table's name in errors."""
        return str(self.path)

    @property
    def cases(self) -> np.ndarray:
        """The name of each case: (N,) str."""
        return self.rows[self.file.manifest.case].to_numpy(dtype=str)

    def column(self, name: str, *keys: str) -> pd.Series:
        """Return a column that the manifest names at these keys.

        Raises:
            BadData: the table has none of this name; the nearest is named.
        """
        if name not in self.rows.columns:
            known = filter(None, map(str, self.rows.columns))
            error = unknown(f"column of {self.path.name}", name, known)
            raise BadData(f"{self.file.at(*keys)}: {error}")
        return self.rows[name]

    def is_blank(self, name: str) -> np.ndarray:
        """Say where a column is blank: (N,) bool."""
        return self.rows[name].isna().to_numpy()


def open_sheet(file: ManifestFile, path: Path, *, labelled: bool = True) -> Sheet:
    """Read the table, leave out what is to be left out, and check that every case has one name.

    Args:
        file: the manifest.
        path: of the table.
        labelled: every case has a label; otherwise nothing of labels is read or left out.

    Raises:
        BadData: the table cannot be read, has no case or label column, no case is left, or a case
            is not named or named twice.
    """
    manifest = file.manifest
    rows = _read(file, path)
    sheet = Sheet(file, path, rows, labelled=labelled)
    left_out = _left_out(sheet) if labelled else rows.iloc[:0, 0]
    sheet.column(manifest.case, "case")
    absent = rows.isin(manifest.missing_values)
    kept = ~rows.index.isin(left_out.index)
    sheet = replace(sheet, rows=rows.mask(absent)[kept], left_out=tuple(left_out))
    if not len(sheet.rows):
        raise BadData(f"{file.at('label')}: leave_out leaves no case of {path.name}")
    unique_names(sheet.column(manifest.case), source=sheet.source)
    if labelled:
        _check_labels(sheet)
    return sheet


def _left_out(sheet: Sheet) -> pd.Series:
    """Return the labels that are left out, empty where blank; a word for absent counts as blank."""
    said = sheet.file.label
    cells = sheet.column(said.column, "label").fillna("")
    blank = cells.isin(["", *sheet.file.manifest.missing_values])
    return cells[cells.isin(said.leave_out) | (blank & ("" in said.leave_out))]


def _check_labels(sheet: Sheet) -> None:
    """Refuse a case without a label.

    Raises:
        BadData: names the line, and what can be done about it.
    """
    column = sheet.rows[sheet.file.label.column]
    blank = column.isna().to_numpy()
    if blank.any():
        wanted = (
            f"filled, in a run ({counted(int(blank.sum()), 'such case')}); leave them out with "
            "label.leave_out: [''], or give them to `bench predict`"
        )
        raise bad_cell(column, int(blank.argmax()), wanted, source=sheet.source)


def _read(file: ManifestFile, path: Path) -> pd.DataFrame:
    if path.suffix.lower() == ".xlsx":
        try:
            return read_sheet(path, (), sheet=file.manifest.sheet)
        except UnknownName as error:
            raise BadData(f"{file.at('sheet')}: {error}") from None
    if file.manifest.sheet:
        raise BadData(f"{file.at('sheet')}: {path.name} is no XLSX and has no sheets; take it out")
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise BadData(f"{file.at('table')}: {path.name} is neither CSV nor XLSX; save it as one")
    delimiter, encoding = manner_of(path, file.manifest.delimiter, file.manifest.encoding)
    return read_table(path, (), delimiter=delimiter, encoding=encoding)


def manner_of(path: Path, delimiter: str = "", encoding: str = "") -> tuple[str, str]:
    """Return what parts the cells of a CSV file, and its encoding.

    The header or a first line such as `sep=;` tells the delimiter; UTF-16 is taken from its mark.
    Other encodings cannot be told from each other, and are read where the manifest names them.

    Args:
        path: the file.
        delimiter: as the manifest says; empty: the header tells.
        encoding: as the manifest says; empty: UTF-8 or UTF-16.

    Raises:
        BadData: the file cannot be read.
    """
    if encoding in ("", "utf-8"):
        encoding = "utf-16" if _mark(path) in UTF16_MARKS and not encoding else "utf-8-sig"
    elif encoding == "utf-16" and _mark(path) not in UTF16_MARKS and 0 not in _mark(path):
        raise BadData(f"{path}: not UTF-16, as the manifest says; take out encoding: utf-16")
    if delimiter:
        return delimiter.replace("tab", "\t"), encoding
    return delimiter_of(read_text(path, encoding)), encoding


def _mark(path: Path) -> bytes:
    try:
        with path.open("rb") as table:
            return table.read(2)
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error


def remarks(sheet: Sheet) -> Iterator[str]:
    """Say what is odd in the file and was read all the same."""
    name = sheet.path.name
    if sheet.path.suffix.lower() != ".xlsx":
        manifest = sheet.file.manifest
        delimiter, encoding = manner_of(sheet.path, manifest.delimiter, manifest.encoding)
        if delimiter != ",":
            yield f"{name}: cells are parted by {DELIMITERS.get(delimiter, repr(delimiter))}"
        if encoding != "utf-8-sig":
            yield f"{name}: read as {encoding}"
        yield from _padded(sheet, delimiter, encoding)
    else:
        yield from _shown_otherwise(sheet)
    label = sheet.file.label
    for word in sorted({*label.leave_out} - {*sheet.left_out, ""}):
        yield f"{name}: {label.column} is never {word!r}, which label.leave_out names"
    if sheet.left_out:
        n_rows = counted(len(sheet.left_out), "row")
        yield f"{name}: {n_rows} left out for the label"


def _shown_otherwise(sheet: Sheet) -> Iterator[str]:
    """Name merged cells and hidden rows of a workbook, which do not read as they look."""
    name, form = sheet.path.name, form_of(sheet.path, sheet.file.manifest.sheet)
    if merged := form.merged:
        yield (
            f"{name}: {listed(merged[:3])} {'are' if len(merged) > 1 else 'is'} merged "
            f"({counted(len(merged), 'place')}); all but the first cell of each is read as blank"
        )
    if hidden := sorted(form.hidden & {*sheet.rows.index}):
        yield (
            f"{name}, line {hidden[0]}: {counted(len(hidden), 'row')} hidden by a filter or by "
            "hand, read all the same; delete from the sheet what is to be no case"
        )


def _padded(sheet: Sheet, delimiter: str, encoding: str) -> Iterator[str]:
    """Name labels that stand between blanks; they are read without."""
    records = list(csv_records(sheet.path, read_text(sheet.path, encoding), delimiter))
    column = sheet.file.label.column
    place = [composed(cell.strip()) for cell in records[0][1]].index(column)
    lines = [line for line, row in records[1:] if row[place] != row[place].strip()]
    if lines:
        yield (
            f"{sheet.path.name}, line {lines[0]}: {column} has blanks around it, read without "
            f"them ({len(lines)} cells)"
        )
