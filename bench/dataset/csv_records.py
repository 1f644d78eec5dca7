"""The records of a CSV file, each with the line on which it begins."""

from __future__ import annotations

import csv
import io
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.errors import BadData

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
QUOTES = re.compile('"+')
QUOTED = re.compile('"[^"]*"')
# The first line by which spreadsheet programs are told what parts the cells: `sep=;`.
DECLARED = re.compile(r'"?sep=(\\t|[^"\r\n])"?\1*(?=[\r\n]|\Z)', re.IGNORECASE)


def delimiter_of(text: str) -> str:
    """Return what parts the cells of a CSV file.

    A first line such as `sep=;` says it. Otherwise it is what the header holds most of, of what the
    line after it holds too, or else a comma.
    """
    if said := DECLARED.match(text):
        return said[1].replace("\\t", "\t")
    blank = "".join(DELIMITERS) + string.whitespace
    filled = (QUOTED.sub("", line) for line in text.splitlines() if line.strip(blank))
    header, first = next(filled, ""), next(filled, "")
    both = [each for each in DELIMITERS if each in header and each in first]
    return max(both or DELIMITERS, key=header.count)


def csv_records(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line (from 1) and the cells of each record, blanks around them kept.

    Args:
        path: of the file, for the error.
        text: of the file; lines without content, and a first line such as `sep=;`, are skipped.
        delimiter: what parts the cells.

    Raises:
        BadData: no CSV. A quote that is never closed is named where it opens.
    """
    # strict: an unclosed quote would otherwise swallow the rest of the file without a word
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    n_read = 0  # lines of the records so far
    declared = DECLARED.match(text) is not None
    try:
        for row in reader:
            if any(map(str.strip, row)) and not (declared and n_read == 0):
                yield n_read + 1, row
            n_read = reader.line_num
    except csv.Error as error:
        lines = io.StringIO(text, newline="").readlines()[n_read : reader.line_num]
        # A quote closes in the wrong place on the last line read; all others leave theirs open.
        misplaced = "expected after" in str(error)
        opening = _unclosed(lines[:-1] if misplaced else lines)
        line = reader.line_num if opening is None else n_read + 1 + opening
        if opening is not None:
            reason = "a quote opens here and is not closed); close it or take it out"
        elif misplaced:
            reason = "a quote closes within a cell); write a quote that belongs to a cell twice"
        else:
            reason = f"{error}); mend the line"
        raise BadData(f"{path}, line {line}: no CSV ({reason}") from error


def _unclosed(lines: Sequence[str]) -> int | None:
    """Return the place of the line on which the quote opens that is open at the end, if one is."""
    opening = None
    for place, line in enumerate(lines):
        for run in QUOTES.findall(line):
            if len(run) % 2:  # a quote within a quoted cell is written twice
                opening = place if opening is None else None
    return opening
