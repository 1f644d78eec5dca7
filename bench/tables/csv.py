"""Write a table as CSV, a line per number."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from bench.tables.model import Table

# what a spreadsheet takes for the beginning of a formula, in full width too
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
FIELDS = (
    "table",
    "group",
    "row",
    "training",
    "condition",
    "condition_name",
    "metric",
    "unit",
    "mean",
    "sd",
    "n",
    "repeats",
    "p",
    "p_adjusted",
    "text",
    "marks",
)


def to_csv(table: Table, *, header: bool = True) -> str:
    """Write one line per row, condition and metric, with numbers that are not rounded.

    Strings that a spreadsheet would run as a formula get an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if header:
        writer.writerow(FIELDS)
    writer.writerows(_lines(table))
    return out.getvalue()


def _lines(table: Table) -> Iterator[list[str]]:
    for group in table.groups:
        for row in group.rows:
            for column, cell in zip(table.columns, row.cells, strict=True):
                names = [table.title, group.title, row.label, column.training, column.key]
                names += [column.long_header, column.group, column.unit]
                numbers = [cell.value, cell.spread, cell.n, cell.n_repeats, cell.p, cell.p_adjusted]
                marks = " ".join([*row.marks, *column.marks, *cell.marks])
                yield [
                    *map(csv_text, names),
                    *("" if number is None else str(number) for number in numbers),
                    csv_text(cell.note if cell.value is not None else cell.text),
                    csv_text(marks),
                ]


def csv_text(text: str) -> str:
    """Return a string on one line, with an apostrophe if a spreadsheet would run it."""
    text = " ".join(text.split())
    is_formula = len(text) > 1 and text[0] in FORMULA
    return f"'{text}" if is_formula else text
