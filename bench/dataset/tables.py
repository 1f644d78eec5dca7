"""Read a CSV file as text: what a cell means is decided by who asked."""

# N rows of a table, or cases

from __future__ import annotations

import unicodedata
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.dataset.csv_records import csv_records, delimiter_of
from bench.errors import BadData
from bench.wording import some_of

if TYPE_CHECKING:
    import pandas as pd

MAX_TABLE_BYTES = 512 * 2**20  # of a table, unpacked: a small XLSX can claim to be larger
MAX_COLUMNS = 20_000
ZIP_MARK = b"PK\x03\x04"


def read_table(
    path: Path,
    required_columns: Sequence[str],
    *,
    header: Sequence[str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8-sig",
) -> pd.DataFrame:
    """Read a CSV file as text.

    Args:
        path: a file with a header line; a byte order mark is skipped.
        required_columns: columns that must be there; others are kept too.
        header: names of all columns, where the file has no header line.
        delimiter: what parts the cells; empty: what the header holds most of.
        encoding: of the file.

    Returns:
        Cells and names `composed`, without surrounding blanks, NaN where blank. The index is the
        line of the file (from 1, the header included) on which the record begins; lines without
        content are skipped.

    Raises:
        BadData: not readable, in another encoding, no CSV, larger than `MAX_TABLE_BYTES` or
            `MAX_COLUMNS`, a column missing or named twice, a record of another length than the
            header, or no record at all.
    """
    text = read_text(path, encoding)
    delimiter = delimiter or delimiter_of(text)
    return frame_of(path, required_columns, *_records(path, text, header, delimiter))


def check_unpacked(path: Path, limit: int, what: str = "table") -> None:
    """Refuse an archive whose parts would fill the memory."""
    with zipfile.ZipFile(path) as archive:
        n_bytes = sum(part.file_size for part in archive.infolist())
    if n_bytes > limit:
        raise _too_large(path, n_bytes, limit, what)


def _too_large(path: Path, n_bytes: int, limit: int, what: str = "table") -> BadData:
    return BadData(
        f"{path}: the {what} has {n_bytes} bytes, unpacked, and the limit is {limit}; keep what "
        "is needed of it"
    )


def too_wide(path: Path, n_columns: int) -> BadData:
    """Refuse a table of too many columns."""
    return BadData(
        f"{path}: the table has {n_columns} columns and the limit is {MAX_COLUMNS}; keep those "
        "that are needed"
    )


def without_blank_end(row: Sequence[str]) -> list[str]:
    """Leave out the blank cells at the end of a row, which spreadsheets write."""
    n_cells = max((place for place, cell in enumerate(row, start=1) if cell), default=0)
    return list(row[:n_cells])


def composed(text: str) -> str:
    """Write é as one letter where it came as two, so that what looks the same is the same (NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def frame_of(
    path: Path,
    required_columns: Sequence[str],
    columns: Sequence[str],
    lines: Sequence[int],
    rows: Sequence[Sequence[str]],
) -> pd.DataFrame:
    """Build the table of a file from its records, NaN where blank; see `read_table`."""
    import pandas as pd

    columns = [composed(name) for name in columns]
    if len(columns) > MAX_COLUMNS:
        raise too_wide(path, len(columns))
    missing = [column for column in required_columns if column not in columns]
    if missing:
        raise BadData(
            f"{path}: column {some_of(missing)} is missing; the file has {some_of(columns)}"
        )
    unnamed = [str(place) for place, name in enumerate(columns, start=1) if not name]
    if len(unnamed) > 1:
        raise BadData(f"{path}: columns {some_of(unnamed)} of the header have no name; name them")
    repeated = sorted(name for name, n_times in Counter(columns).items() if n_times > 1)
    if repeated:
        raise BadData(f"{path}: column {some_of(repeated)} stands there twice; keep one of them")
    if not rows:
        raise BadData(f"{path}: no record follows the header; get the file again")
    cells = [[composed(cell) or np.nan for cell in row] for row in rows]
    index = pd.Index(lines, name="line")
    return pd.DataFrame(cells, columns=columns, index=index, dtype=object)


def other_length(path: Path, line: int, n_cells: int, n_columns: int) -> BadData:
    """Refuse a row that is not as long as the header."""
    return BadData(f"{path}, line {line}: {n_cells} cells under {n_columns} columns; mend the line")


def _records(
    path: Path, text: str, header: Sequence[str] | None, delimiter: str
) -> tuple[list[str], list[int], list[list[str]]]:
    """Return the header, and the line and cells of each record."""
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, row in csv_records(path, text, delimiter):
        lines.append(line)
        rows.append([cell.strip() for cell in row])
    if not rows:
        raise BadData(f"{path}: the file is empty; get it again")
    columns = rows[0] if header is None else list(header)
    first = 1 if header is None else 0
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(columns):
            raise other_length(path, line, len(row), len(columns))
    n_named = len(without_blank_end(columns))
    if not any(any(row[n_named:]) for row in rows):  # spreadsheets write columns that are blank
        columns, rows = columns[:n_named], [row[:n_named] for row in rows]
    return columns, lines[first:], rows[first:]


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """Return the text of a file.

    Raises:
        BadData: not readable, larger than `MAX_TABLE_BYTES`, or in another encoding.
    """
    try:
        n_bytes = path.stat().st_size
        if n_bytes > MAX_TABLE_BYTES:
            raise _too_large(path, n_bytes, MAX_TABLE_BYTES)
        content = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path}: cannot be read ({error.strerror})") from error
    if content.startswith(ZIP_MARK):
        raise BadData(f"{path}: an archive or workbook, no text; an XLSX file is to be named .xlsx")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        name = encoding.upper().removesuffix("-SIG")
        raise BadData(f"{path}, line {line}: not {name}; save the file as UTF-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise BadData(f"{path}, line {line}: it holds NUL, as UTF-16 does; save the file as UTF-8")
    return text
