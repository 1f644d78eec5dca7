"""The records of a CSV file, each with the line on which it begins."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.errors import BadData

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
QUOTES = re.compile('"+')
QUOTED = re.compile('"[^"]*"')


def delimiter_of(text: str) -> str:
    """Return what parts the cells of a CSV file: what its header holds most of, or else a comma."""
    header = QUOTED.sub("", next(iter(text.splitlines()), ""))
    return max(DELIMITERS, key=header.count)


def csv_records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line (from 1) and the cells of each record, blanks around them kept.

    Args:
        path: of the file, for the error.
        text: of the file; empty lines are skipped.
        delimiter: what parts the cells.

    Raises:
        BadData: no CSV. A quote that is never closed is named where it opens.
    """
    # strict: an unclosed quote would otherwise swallow the rest of the file without a word
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    n_read = 0  # lines of the records so far
    try:
        for row in reader:
            if row:
                yield n_read + 1, row
            n_read = reader.line_num
    except csv.Error as error:
        lines = io.StringIO(text, newline="").readlines()[n_read : reader.line_num]
        # A quote closes in the wrong place on the last line read; all others leave theirs open.
        misplaced = "expected after" in str(error)
        opening = _unclosed(lines[:-1] if misplaced else lines)
        if opening is None:
            reason = f"line {reader.line_num}: no CSV ({error}); mend the line"
        else:
            reason = (
                f"line {n_read + 1 + opening}: no CSV (a quote opens here and is not closed); "
                "close it or take it out"
            )
        raise BadData(f"{path}, {reason}") from error


def _unclosed(lines: Sequence[str]) -> int | None:
    """Return the place of the line on which the quote opens that is open at the end, if one is."""
    opening = None
    for place, line in enumerate(lines):
        for run in QUOTES.findall(line):
            if len(run) % 2:  # a quote within a quoted cell is written twice
                opening = place if opening is None else None
    return opening
