"""What a table is: cells with their spread and marks, columns, groups of rows, footnotes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

DASH = "-"
SIGNS = ("*", "°", "†", "‡")  # marks of tests; all other marks are letters of footnotes
TIE = 1e-9  # means closer than this are one number that was summed in two orders


@dataclass(frozen=True)
class Cell:
    """A number with its spread, or a word in its place (`failed`, a dash)."""

    value: float | None = None  # in the unit that is printed, never rounded
    spread: float | None = None
    digits: int = 2
    text: str = ""  # printed where there is no value
    marks: tuple[str, ...] = ()  # stars, and the letters of footnotes
    best: bool = False
    second: bool = False
    note: str = ""  # short, in brackets after the value: the column that is the worst
    n: int | None = None  # cases behind the value
    n_repeats: int | None = None  # repeats behind the value
    p: float | None = None  # of a test against the reference, not adjusted
    p_adjusted: float | None = None

    @property
    def number(self) -> str:
        """The rounded value, or the word."""
        return self.text if self.value is None else f"{self.value:.{self.digits}f}"

    @property
    def deviation(self) -> str:
        """The rounded spread; empty if there is none."""
        if self.value is None or self.spread is None:
            return ""
        return f"{self.spread:.{self.digits}f}"


@dataclass(frozen=True)
class Column:
    """One column of numbers: one metric under one condition."""

    key: str  # of the condition, as CSV names it
    header: str
    group: str  # the block that it belongs to: a metric
    long_header: str = ""
    unit: str = ""
    n: int | None = None  # cases; None: not a matter of cases (an average over columns)
    better: Literal["higher", "lower", "neither"] = "higher"
    marks: tuple[str, ...] = ()  # letters of footnotes
    block: str = ""  # parts the columns of a metric: `train 30 %`
    training: str = ""  # name of the training setting, as CSV names it


@dataclass(frozen=True)
class Row:
    """One line: a label and a cell per column."""

    label: str
    cells: tuple[Cell, ...]
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowGroup:
    """Rows under one heading; an empty title prints none."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """What a report makes and a writer prints."""

    title: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    caption: tuple[str, ...] = ()  # whole sentences
    footnotes: Mapping[str, str] = field(default_factory=dict)  # mark -> sentence, in order

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(
                    f"row {row.label!r} has {len(row.cells)} cells for {len(self.columns)} columns"
                )

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows."""
        return tuple(row for group in self.groups for row in group.rows)

    def blocks(self) -> list[tuple[str, list[int]]]:
        """List the column blocks in order: title and column indexes."""
        blocks: dict[str, list[int]] = {}
        for index, column in enumerate(self.columns):
            title = f"{column.group} ({column.unit})" if column.unit else column.group
            title += f", {column.block}" if column.block else ""
            blocks.setdefault(title, []).append(index)
        return list(blocks.items())


class Footnotes:
    """Gives equal sentences one letter: a, b, ..., z, aa, ab, ..."""

    def __init__(self) -> None:
        self._marks: dict[str, str] = {}

    def mark(self, sentence: str) -> str:
        """Return the letter of a sentence."""
        return self._marks.setdefault(sentence, _letters(len(self._marks)))

    def as_mapping(self) -> dict[str, str]:
        """Return mark -> sentence, in the order in which they were first used."""
        return {mark: sentence for sentence, mark in self._marks.items()}


def _letters(index: int) -> str:
    first, last = divmod(index, 26)
    return (_letters(first - 1) if first else "") + chr(ord("a") + last)


def mark_best(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """Mark the best and the second best value of each column among these rows.

    Decided on unrounded values; equal ones share the mark. A column with fewer than two values has
    no best.
    """
    cells = [list(row.cells) for row in rows]
    for c, column in enumerate(columns):
        ranks = _ranks([each[c].value for each in cells], column.better)
        for each, rank in zip(cells, ranks, strict=True):
            each[c] = replace(each[c], best=rank == 0, second=rank == 1)
    return tuple(replace(row, cells=tuple(each)) for row, each in zip(rows, cells, strict=True))


def _ranks(values: Sequence[float | None], better: str) -> list[int | None]:
    """Rank from 0, the best; equal values share a rank, and None has none."""
    sign = -1.0 if better == "higher" else 1.0
    order = sorted((sign * value, i) for i, value in enumerate(values) if value is not None)
    ranks: list[int | None] = [None] * len(values)
    if better == "neither" or len(order) < 2:
        return ranks
    rank = 0
    for (before, _), (value, i) in zip([order[0], *order], order, strict=False):
        rank += not math.isclose(before, value, rel_tol=TIE, abs_tol=TIE)
        ranks[i] = rank
    return ranks


def counts(columns: Sequence[Column]) -> list[str]:
    """Return the cases behind each column, as printed; empty where they are no matter of it."""
    return ["" if column.n is None else str(column.n) for column in columns]
