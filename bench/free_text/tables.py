"""What was read from reports, as a table that a person can correct."""

# N reports

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadConfig, BadData
from bench.free_text.rules import CASE, TEXT, checked_rules

if TYPE_CHECKING:
    import pandas as pd


def write_attributes(
    path: Path, cases: Sequence[str], reports: Sequence[str | None], found: pd.DataFrame
) -> None:
    """Write what was read as a CSV table that a person can correct: a blank is unmentioned.

    Args:
        path: of the table; its folder must exist.
        cases: (N,) names.
        reports: (N,) texts.
        found: (N,) as of `attributes_of`.

    Raises:
        BadConfig: the file cannot be written, or is there already: it may hold corrections.
    """
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([CASE, *found.columns, TEXT])
            rows = found.itertuples(index=False)
            for case, report, row in zip(cases, reports, rows, strict=True):
                cells = [cell if isinstance(cell, str) else "" for cell in row]
                writer.writerow([case, *cells, report])
    except FileExistsError:
        raise BadConfig(
            f"{path} is there already and may hold corrections; name another file"
        ) from None
    except OSError as error:
        raise BadConfig(f"{path} cannot be written ({error.strerror})") from error


def with_corrections(
    found: pd.DataFrame, cases: Sequence[str], rules: Mapping[str, Any], path: Path
) -> pd.DataFrame:
    """Return the attributes with those of a corrected table in place of what was read.

    A case that the table has is as the table says, blanks too; a column that it lacks, and a case
    that it lacks, stay as they were read.

    Args:
        found: (N,) as of `attributes_of`.
        cases: (N,) names.
        rules: as of `attributes_of`.
        path: the table, as `write_attributes` wrote it.

    Raises:
        BadData: the table cannot be read, names an unknown case, or holds a value that the rules
            do not know; names file, line and column.
    """
    import pandas as pd

    from bench.dataset import bad_cell, read_table, unique_names

    declared = checked_rules(rules)
    table = read_table(path, (CASE,), delimiter="")  # spreadsheets save their own
    row_of = {case: row for row, case in enumerate(cases)}
    names = unique_names(table[CASE], source=str(path))
    unknown = [place for place, name in enumerate(names) if name not in row_of]
    if unknown:
        raise bad_cell(table[CASE], unknown[0], "a case of the data", source=str(path))
    columns = [column for column in table.columns if column in declared]
    if not columns:
        raise BadData(f"{path}: no column is one of {', '.join(declared)}; mend the header")
    corrected = found.copy()
    rows = [row_of[name] for name in names]
    for column in columns:
        vocabulary = declared[column].vocabulary
        wrong = ~(table[column].isna() | table[column].isin(vocabulary)).to_numpy()
        if wrong.any():
            wanted = f"one of {', '.join(vocabulary)} or blank"
            raise bad_cell(table[column], int(wrong.argmax()), wanted, source=str(path))
        values = corrected[column].tolist()
        for row, cell in zip(rows, table[column], strict=True):
            values[row] = cell if isinstance(cell, str) else None
        corrected[column] = pd.Series(values, corrected.index, dtype=object)
    return corrected
