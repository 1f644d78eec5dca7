"""What the cells of a table mean: names, words, numbers, classes; a wrong one is named."""

# N rows of a table, or cases

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BadData

if TYPE_CHECKING:
    import pandas as pd

MAX_SHOWN = 80  # characters of a cell in an error


def short(text: str) -> str:
    """Cut a text that would fill the screen."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def bad_cell(column: pd.Series, position: int, wanted: str, *, source: str) -> BadData:
    """Build the error for the cell of a column at a position (from 0): file, line, value."""
    cell = column.iloc[position]
    shown = short(repr(cell)) if isinstance(cell, str) else "blank"
    return BadData(
        f"{source}, line {column.index[position]}: {column.name} is {shown}; it must be {wanted}"
    )


def filled(column: pd.Series, *, source: str) -> np.ndarray:
    """Return the cells of a column that may have no blank: (N,) str.

    Raises:
        BadData: a cell is blank; file and line are named.
    """
    blank = column.isna().to_numpy()
    if blank.any():
        raise bad_cell(column, int(blank.argmax()), "filled", source=source)
    return column.to_numpy(dtype=str)


def unique_names(column: pd.Series, *, source: str) -> np.ndarray:
    """Return the cells of a column that names something in each row: (N,) str.

    Raises:
        BadData: a cell is blank, or there twice; file and line are named.
    """
    names = filled(column, source=source)
    repeated = column.duplicated().to_numpy()
    if repeated.any():
        raise bad_cell(column, int(repeated.argmax()), "there once only", source=source)
    return names


def words_of(
    column: pd.Series, words: Mapping[str, str], *, source: str, absent: Sequence[str] = ()
) -> np.ndarray:
    """Return what the cells of a category mean.

    Args:
        column: (N,) of a table from `read_table`.
        words: the meaning of each cell that there can be.
        source: name of the file, for the error.
        absent: cells that mean absent, as a blank does.

    Returns:
        (N,) objects: str, NaN where absent.

    Raises:
        BadData: a cell is none of the words; file, line and cell are named.
    """
    given = column.mask(column.isin(absent))
    known = given.isna() | given.isin(words)
    if not known.all():
        wanted = f"one of {', '.join((*words, *absent))} or blank"
        raise bad_cell(column, int((~known.to_numpy()).argmax()), wanted, source=source)
    return given.map(words).to_numpy(dtype=object)


def label_codes(column: pd.Series, classes: Sequence[str], *, source: str) -> np.ndarray:
    """Return the index of each cell's class.

    Args:
        column: (N,) of a table from `read_table`; no blank is allowed.
        classes: the names in order.
        source: name of the file, for the error.

    Returns:
        (N,) int64 in [0, K).

    Raises:
        BadData: a cell is none of the classes; file, line and cell are named.
    """
    code_of = {name: code for code, name in enumerate(classes)}
    codes = np.array([code_of.get(cell, -1) for cell in column], dtype=np.int64)
    if (codes < 0).any():
        position = int((codes < 0).argmax())
        raise bad_cell(column, position, f"one of {', '.join(classes)}", source=source)
    return codes


def number(cell: str) -> float:
    """Read a number as a person writes it: 4_0, which Python takes for 40, is a slip.

    Raises:
        ValueError: it is none.
    """
    if "_" in cell:
        raise ValueError(f"{cell!r} is no number")
    return float(cell)


def numbers(column: pd.Series, *, source: str) -> np.ndarray:
    """Return the cells as numbers, NaN where blank.

    Args:
        column: (N,) of a table from `read_table`.
        source: name of the file, for the error.

    Returns:
        (N,) float64.

    Raises:
        BadData: a cell is no number that float32 holds; file, line and cell are named.
    """
    values = np.full(len(column), np.nan)
    for position, cell in enumerate(column):
        if not isinstance(cell, str):
            continue
        try:
            values[position] = number(cell)
        except ValueError:
            raise bad_cell(column, position, "a number or blank", source=source) from None
        if not np.isfinite(values[position]):
            raise bad_cell(column, position, "a finite number or blank", source=source)
        if abs(values[position]) > np.finfo(np.float32).max:
            raise bad_cell(column, position, "a number that float32 holds", source=source)
    return values
