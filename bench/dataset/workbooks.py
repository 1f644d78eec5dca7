"""Read a sheet of an XLSX workbook as text, and refuse what would read as something else."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.dataset.cells import short
from bench.dataset.tables import (
    MAX_COLUMNS,
    MAX_TABLE_BYTES,
    check_unpacked,
    composed,
    frame_of,
    other_length,
    too_wide,
    without_blank_end,
)
from bench.errors import BadData, BadRequest, UnknownName, unknown

if TYPE_CHECKING:
    import pandas as pd

# A cell of a workbook with a formula and no value; a formula whose value is a blank text says so.
UNSOLVED = re.compile(
    rb'<c\b(?![^>]*\bt="str")[^>]*\br="([A-Z]+[0-9]+)"[^>]*>\s*<f\b(?:[^>]*/>|[^>]*>[^<]*</f>)'
    rb"\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>"
)


def read_sheet(path: Path, required_columns: Sequence[str], *, sheet: str = "") -> pd.DataFrame:
    """Read a sheet of an XLSX file as text, whole numbers without a point.

    Args:
        path: a workbook; the first row of the sheet with content is the header.
        required_columns: columns that must be there; others are kept too.
        sheet: its name; empty: the first sheet of cells that is not hidden.

    Returns:
        As `read_table`; the index is the row of the sheet, from 1.

    Raises:
        BadData: not readable, or a fault that `read_table` names too.
        BadRequest: openpyxl, which reads such files, is not installed.
        UnknownName: no sheet has this name.
    """
    records = [
        (line, row) for line, row in enumerate(_sheet_rows(path, sheet), start=1) if any(row)
    ]  # rows without content are formatted or were emptied
    if not records:
        which = f"sheet {sheet!r}" if sheet else "the first sheet"
        raise BadData(f"{path}: {which} is empty; move the table to the front of the workbook")
    columns = without_blank_end(records[0][1])
    rows = [_fitted(without_blank_end(row), columns, path, line) for line, row in records[1:]]
    return frame_of(path, required_columns, columns, [line for line, _ in records[1:]], rows)


def _sheet_rows(path: Path, sheet: str) -> list[list[str]]:
    """Return the cells of a sheet as text, blank ones empty."""
    try:
        import openpyxl  # noqa: F401
    except ModuleNotFoundError as error:
        raise BadRequest(
            f"{path}: reading XLSX needs openpyxl, which is not installed; "
            "pip install 'missing-modality-bench[formats]', or save the sheet as CSV"
        ) from error
    try:
        check_unpacked(path, MAX_TABLE_BYTES)
        _check_chart_sheets(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that it does not know
            rows = _cells(path, sheet, formulas=False)
            if unsolved := _unsolved(path):
                _check_formulas(path, _cells(path, sheet, formulas=True), unsolved)
            return [[_cell_text(cell) for cell in row] for row in rows]
    except (BadData, UnknownName):
        raise
    except Exception as error:  # damaged workbooks raise many kinds
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
        raise BadData(f"{path}: no readable XLSX ({reason}); get the file again") from error


@dataclass(frozen=True)
class Form:
    """What a sheet shows otherwise than its cells are read."""

    merged: tuple[str, ...]  # `B2:B3`
    hidden: frozenset[int]  # rows, from 1, that a filter or a person hides


def form_of(path: Path, sheet: str = "") -> Form:
    """Return the merged cells and hidden rows of a sheet of a workbook that can be read."""
    import openpyxl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with closing(openpyxl.load_workbook(path)) as book:
            chosen = _chosen(path, book, sheet)
            merged = sorted(str(each) for each in chosen.merged_cells.ranges)
            hidden = [row for row, form in chosen.row_dimensions.items() if form.hidden]
            return Form(tuple(merged), frozenset(hidden))


def _cells(path: Path, sheet: str, *, formulas: bool) -> list[Sequence[object]]:
    """Return the cells of a sheet: values, or formulas where there are some."""
    import openpyxl

    with closing(openpyxl.load_workbook(path, read_only=True, data_only=not formulas)) as book:
        chosen = _chosen(path, book, sheet)
        chosen.reset_dimensions()  # rows as long as they are, not as the file claims
        return [_checked_width(path, row) for row in chosen.iter_rows(values_only=True)]


def _chosen(path: Path, book: Any, name: str) -> Any:
    """Return the sheet of this name, or the first that is not hidden; charts are none."""
    for sheet in book.worksheets:
        if composed(sheet.title) == name or (not name and sheet.sheet_state == "visible"):
            return sheet
    if name:
        raise unknown(f"sheet of {path.name}", name, [sheet.title for sheet in book.worksheets])
    raise BadData(
        f"{path}: the workbook has no sheet of cells, only charts or hidden ones; show the sheet "
        "that holds the table, or save it as CSV"
    )


def _check_chart_sheets(path: Path) -> None:
    """Refuse a chart sheet without a chart, over which the reader stumbles."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    for name in names:
        folder, _, part = name.rpartition("/")
        if folder == "xl/chartsheets" and f"{folder}/_rels/{part}.rels" not in names:
            raise BadData(
                f"{path}: the workbook holds a chart sheet without a chart, which cannot be read; "
                "delete that sheet, or save the table as CSV"
            )


def _unsolved(path: Path) -> set[str]:
    """Name the cells, of any sheet, that hold a formula and not even a blank text as its value."""
    with zipfile.ZipFile(path) as archive:
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
        found = [UNSOLVED.findall(archive.read(name)) for name in sheets]
    return {place.decode() for each in found for place in each}


def _check_formulas(path: Path, rows: Sequence[Sequence[object]], unsolved: set[str]) -> None:
    """Refuse a formula without its value, which would be read as blank.

    Programs that only write workbooks leave the values to the one that opens them.
    """
    from openpyxl.utils import get_column_letter

    for line, row in enumerate(rows, start=1):
        for place, cell in enumerate(row, start=1):
            name = f"{get_column_letter(place)}{line}"
            if name in unsolved and str(cell).startswith("="):
                raise BadData(
                    f"{path}, line {line}: cell {name} is the formula {short(str(cell))} without "
                    "its value; open the file in a spreadsheet program and save it"
                )


def _checked_width(path: Path, row: Sequence[object]) -> Sequence[object]:
    if len(row) > MAX_COLUMNS:
        raise too_wide(path, len(row))
    return row


def _cell_text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime) and cell.time() == time():
        return str(cell.date())  # a workbook has no dates but those of a midnight
    return "" if cell is None else str(cell).strip()


def _fitted(row: list[str], columns: Sequence[str], path: Path, line: int) -> list[str]:
    """Fill a row up with blanks to the width of the header."""
    if len(row) > len(columns):
        raise other_length(path, line, len(row), len(columns))
    return row + [""] * (len(columns) - len(row))
