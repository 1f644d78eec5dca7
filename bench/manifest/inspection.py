"""Guess what the columns of an unknown table are: for a proposal that a person then corrects."""

# N rows

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.dataset.release import PICTURE_SUFFIXES
from bench.manifest.columns import PARTS, is_numeric
from bench.volumes import NIFTI, NUMPY

if TYPE_CHECKING:
    import pandas as pd

Role = Literal[
    "case", "label", "group", "split", "folds", "image", "volume", "numeric", "categorical",
    "report", "ignored",
]  # fmt: skip

ABSENT = frozenset({"NA", "N/A", "n/a", "#N/A", "nan", "NaN", "null", "NULL", "?", ".", "UNK"})
DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}")
CASE_NAME = re.compile(
    r"(^|[_ .-])(id|case|nr|no|number|name|image|sample|lesion|study)s?($|[_ .-])"
)
NUMBER_NAME = re.compile(r"(^|[_ .-])(id|index|nr)$|^unnamed")
LABEL_NAME = re.compile(
    r"^(label|class|target|diagnosis|diagnostic|dx|outcome|grade|y|pathology|tumou?r|malignan(t|cy))"
)
GROUP_NAME = re.compile(r"patient|subject|person|participant")
MAX_CLASSES = 20
MOST = 0.8  # of the cells that must look like something
MIN_LETTERS = 30  # of the mean cell of a report
MIN_WORDS = 5
MAX_WORDS = 20  # of a category, or half of the cells if they are more


@dataclass(frozen=True)
class Column:
    """What a column seems to be, and why."""

    name: str
    role: Role
    note: str = ""
    words: tuple[str, ...] = ()  # of a category


def absent_words(rows: pd.DataFrame) -> tuple[str, ...]:
    """List the cells that seem to mean absent."""
    found = {cell for name in rows.columns for cell in rows[name].dropna().unique()}
    return tuple(sorted(found & ABSENT))


def inspect(rows: pd.DataFrame) -> list[Column]:
    """Guess the role of each column.

    Args:
        rows: (N,) cells as text, NaN where absent.
    """
    columns = [_kind(str(name), rows[name]) for name in rows.columns if str(name)]
    columns = _with_case(_with_parts(columns, rows), rows)
    columns = _with_label(_with_group(columns, rows), rows)
    label = next((each.name for each in columns if each.role == "label"), None)
    return columns if label is None else [_with_leak(each, rows, label) for each in columns]


def _kind(name: str, column: pd.Series) -> Column:
    """Say what the cells of a column look like, whatever its neighbours are."""
    cells = column.dropna()
    n_words = cells.nunique()
    if n_words == 0:
        return Column(name, "ignored", "blank")
    files = _files(cells)
    if files:
        return Column(name, files)
    if n_words == 1:
        return Column(name, "ignored", f"always {cells.iloc[0][:40]!r}")
    if np.mean([bool(DATE.fullmatch(cell)) for cell in cells]) >= MOST:
        return Column(name, "ignored", "dates")
    if NUMBER_NAME.search(name.lower()) and _is_whole(cells):
        return Column(name, "ignored", "names something by number")
    if is_numeric(cells):
        binary = set(cells) == {"0", "1"}
        return Column(name, "numeric", "0 and 1 only: yes or no?" if binary else "")
    if cells.str.len().mean() >= MIN_LETTERS and cells.str.count(r"\S+").mean() >= MIN_WORDS:
        return Column(name, "report")
    if n_words <= max(MAX_WORDS, len(cells) // 2) and n_words < len(cells):
        return Column(name, "categorical", words=tuple(sorted(cells.unique())))
    return Column(name, "ignored", f"{n_words} different words in {len(cells)} cells: a name?")


def _files(cells: pd.Series) -> Literal["", "image", "volume"]:
    """Say whether cells are paths of pictures or volumes."""
    small = cells.str.lower()
    if small.str.endswith((*NIFTI, NUMPY)).mean() >= MOST:
        return "volume"
    return "image" if small.str.endswith(tuple(PICTURE_SUFFIXES)).mean() >= MOST else ""


def _with_role(columns: list[Column], name: str, role: Role, note: str = "") -> list[Column]:
    return [replace(each, role=role, note=note) if each.name == name else each for each in columns]


def _with_parts(columns: list[Column], rows: pd.DataFrame) -> list[Column]:
    """Find the columns of an official split, and of folds."""
    for each in columns:
        cells = rows[each.name].dropna().str.lower()
        words = {PARTS.get(cell) for cell in cells.unique()}
        if {"train", "test"} <= words <= set(PARTS.values()):
            columns = _with_role(columns, each.name, "split")
        if "fold" in each.name.lower() and each.role == "numeric":
            folds = sorted(cells.astype(float).unique())
            if folds in (list(range(len(folds))), list(range(1, len(folds) + 1))):
                columns = _with_role(columns, each.name, "folds")
    return columns


def _with_case(columns: list[Column], rows: pd.DataFrame) -> list[Column]:
    """Find the column that names each row: the likeliest by its name, or else the first."""
    unique = [
        each for each in columns if rows[each.name].notna().all() and rows[each.name].is_unique
    ]
    plain = [each for each in unique if each.role not in ("image", "volume", "report", "split")]
    whole = [each for each in plain if _is_whole(rows[each.name]) or each.role != "numeric"]
    by_name = [each for each in whole if CASE_NAME.search(each.name.lower())]
    for candidates in (by_name, [each for each in whole if each.role != "numeric"], whole, unique):
        if candidates:
            return _with_role(columns, candidates[0].name, "case")
    return columns


def _is_whole(column: pd.Series) -> bool:
    return bool(column.str.fullmatch(r"[+-]?\d+").all())


def _with_group(columns: list[Column], rows: pd.DataFrame) -> list[Column]:
    """Find the column of patients who have several rows."""
    for each in columns:
        cells = rows[each.name]
        several = cells.notna().all() and 1 < cells.nunique() < len(cells)
        if each.role != "case" and several and GROUP_NAME.search(each.name.lower()):
            return _with_role(columns, each.name, "group")
    return columns


def _with_label(columns: list[Column], rows: pd.DataFrame) -> list[Column]:
    """Find the column of the classes: by its name, or else the last with few words."""
    fit = [
        each
        for each in columns
        if each.role in ("numeric", "categorical") and _may_be_label(rows[each.name])
    ]
    named = [each for each in fit if LABEL_NAME.search(each.name.lower())]
    words = [each for each in fit if each.role == "categorical"]
    if named:
        return _with_role(columns, named[0].name, "label", "by its name")
    if words:
        return _with_role(columns, words[-1].name, "label", "a guess: the last with few words")
    return columns


def _may_be_label(column: pd.Series) -> bool:
    counts = column.value_counts()
    return bool(2 <= (counts >= 2).sum() <= len(counts) <= MAX_CLASSES)


def no_classes(column: pd.Series) -> list[str]:
    """List the cells of a label that cannot be classes: blank, or in one row only."""
    counts = column.value_counts()
    blank = [""] if column.isna().any() else []
    return blank + sorted(str(word) for word in counts.index[counts < 2])


def _with_leak(each: Column, rows: pd.DataFrame, label: str) -> Column:
    """Note that each value of an input goes with one class."""
    if each.role != "categorical" or rows[each.name].dropna().empty:
        return each
    classes_there = ~rows[label].isin(no_classes(rows[label]))
    both = rows.loc[classes_there, [each.name, label]].dropna()
    classes: Sequence[int] = both.groupby(each.name)[label].nunique().tolist()
    if len(both) < len(rows) / 2 or max(classes, default=2) > 1 or both[label].nunique() < 2:
        return each
    return replace(each, note="LEAK")
