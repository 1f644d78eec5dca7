"""Columns of a manifest's table: labels, groups, parts, folds, attributes, vectors."""

# N cases, W vector width

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from bench.data import Attribute
from bench.dataset import bad_cell, filled, label_codes, number, numbers, words_of
from bench.errors import BadData
from bench.manifest.schema import SENTENCE, AttributeColumn
from bench.manifest.spreadsheet import Sheet

if TYPE_CHECKING:
    import pandas as pd

PARTS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
WILD = frozenset("*?[")


@dataclass(frozen=True)
class Table:
    """A tabular modality: what its attributes are, and their cells."""

    attributes: tuple[Attribute, ...]
    cells: pd.DataFrame  # one column per attribute, NaN where absent


def labels(sheet: Sheet) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the classes in order, and the index of each case's: (N,) int64.

    Raises:
        BadData: a cell that means no class, fewer than two classes, or one without a second group.
    """
    said = sheet.file.label
    column = sheet.rows[said.column]
    cells = column.map(lambda cell: said.words.get(cell, cell))
    classes = said.classes or tuple(sorted(set(cells), key=_in_order))
    code_of = {name: k for k, name in enumerate(classes)}
    if not set(cells) <= set(code_of):
        label_codes(column, _known_cells(classes, said.words), source=sheet.source)
    label = np.array([code_of[name] for name in cells], dtype=np.int64)
    if len(classes) < 2:
        raise BadData(
            f"{sheet.file.at('label')}: column {said.column} of {sheet.source} has one class, "
            f"{classes[0]!r}; two are needed"
        )
    _check_classes(sheet, column, classes, label)
    return classes, label


def _known_cells(classes: Sequence[str], words: Mapping[str, str]) -> tuple[str, ...]:
    """List the cells that mean a class: its own name, unless that means another."""
    return (*words, *(name for name in classes if name not in words))


def _in_order(name: str) -> tuple[float, str]:
    """Sort numbers by value, before words."""
    try:
        return float(name), name
    except ValueError:
        return float("inf"), name


def _check_classes(
    sheet: Sheet, column: pd.Series, classes: Sequence[str], label: np.ndarray
) -> None:
    group = groups(sheet)
    for k, name in enumerate(classes):
        rows = np.flatnonzero(label == k)
        if not len(rows):
            raise BadData(
                f"{sheet.file.at('label', 'classes')}: no case of {sheet.source} has class "
                f"{name!r} in column {column.name}; leave it out"
            )
        if len(set(group[rows])) == 1:
            what = "case" if len(rows) == 1 else "group of cases"
            raise BadData(
                f"{sheet.source}, line {column.index[rows[0]]}: {column.name} is "
                f"{column.iloc[rows[0]]!r}, the only {what} of class {name!r}, and training and "
                "test need one each; merge it with label.words or name it in label.leave_out"
            )


def groups(sheet: Sheet) -> np.ndarray:
    """Return the group of each case, itself where no column is named: (N,) str.

    Raises:
        BadData: a group is blank.
    """
    name = sheet.file.manifest.group
    return filled(sheet.column(name, "group"), source=sheet.source) if name else sheet.cases


def parts(sheet: Sheet) -> np.ndarray | None:
    """Return the part of each case, or None if no column is named: (N,) train, valid or test.

    Raises:
        BadData: a cell names no part.
    """
    name = sheet.file.manifest.split
    if not name:
        return None
    column = sheet.column(name, "split")
    known = column.str.lower().isin(PARTS).to_numpy()
    if not known.all():
        wanted = f"one of {', '.join(PARTS)}, in any case"
        raise bad_cell(column, int((~known).argmax()), wanted, source=sheet.source)
    found = column.str.lower().map(PARTS).to_numpy(dtype=str)
    if not {"train", "test"} <= set(found):
        raise BadData(
            f"{sheet.file.at('split')}: column {name} of {sheet.source} has only "
            f"{', '.join(sorted(set(found)))}; it must have train and test"
        )
    return found


def folds(sheet: Sheet) -> dict[int, np.ndarray]:
    """Return the official folds, if a column is named: their number -> (N,) from 0.

    Raises:
        BadData: a cell is no whole number from 0, or a number is left out.
    """
    name = sheet.file.manifest.folds
    if not name:
        return {}
    column = sheet.column(name, "folds")
    whole = column.str.fullmatch(r"\d{1,3}(\.0*)?").fillna(False).to_numpy(dtype=bool)
    if not whole.all():
        wanted = "the number of a fold, from 0 or 1"
        raise bad_cell(column, int((~whole).argmax()), wanted, source=sheet.source)
    values = column.to_numpy(dtype=float)
    first = int(values.min())
    found = np.unique(values.astype(int) - first).tolist()
    if first > 1 or found != list(range(len(found))) or len(found) < 2:
        raise BadData(
            f"{sheet.file.at('folds')}: column {name} of {sheet.source} has the folds "
            f"{', '.join(str(k + first) for k in found[:12])}; they must count from 0 or 1 "
            "without a gap, two or more"
        )
    said = sheet.file.manifest.n_folds
    if "n_folds" in sheet.file.manifest.model_fields_set and said != len(found):
        raise BadData(
            f"{sheet.file.at('n_folds')}: it is {said}, but column {name} of {sheet.source} has "
            f"{len(found)} folds; take n_folds out"
        )
    return {len(found): values.astype(np.int64) - first}


def subgroups(sheet: Sheet) -> dict[str, np.ndarray]:
    """Return the columns of subgroups, `unknown` where blank: (N,) str each."""
    return {
        name: sheet.column(name, "columns").fillna("unknown").to_numpy(dtype=str)
        for name in sheet.file.manifest.columns
    }


def matching(sheet: Sheet, said: str, *keys: str) -> list[str]:
    """List the columns that a name or a pattern such as `lab_*` names, none twice.

    Raises:
        BadData: there is no such column.
    """
    if said in sheet.rows.columns or not set(said) & WILD:
        return [str(sheet.column(said, *keys).name)]
    found = [str(name) for name in sheet.rows.columns if fnmatchcase(str(name), said)]
    if not found:
        raise BadData(f"{sheet.file.at(*keys)}: no column of {sheet.source} fits {said!r}")
    return found


def table(sheet: Sheet, said: Mapping[str, AttributeColumn], *keys: str) -> Table:
    """Read the attributes of a tabular modality.

    Raises:
        BadData: a column is not there, or a cell is not what its kind or words promise.
    """
    import pandas as pd

    read = {
        name: _attribute(sheet, name, each)
        for pattern, each in said.items()
        for name in matching(sheet, pattern, *keys, pattern)
    }
    cells = {name: values for name, (_, values) in read.items()}
    attributes = tuple(attribute for attribute, _ in read.values())
    return Table(attributes, pd.DataFrame(cells, index=range(len(sheet.rows))))


def _attribute(sheet: Sheet, name: str, said: AttributeColumn) -> tuple[Attribute, np.ndarray]:
    """Read one attribute: what it is, and (N,) float64 or words as objects."""
    column, manifest = sheet.rows[name], sheet.file.manifest
    leak = manifest.leaks.get(name, "")
    template = manifest.templates.get(name, SENTENCE)
    if said.words or said.categories:
        words = said.words or {each: each for each in said.categories}
        categories = said.categories or tuple(dict.fromkeys(words.values()))
        values = words_of(column, words, source=sheet.source)
        return Attribute(name, "categorical", categories, leak, template), values
    if said.kind == "numeric" or (not said.kind and is_numeric(column)):
        values = numbers(column, source=sheet.source)
        return Attribute(name, "numeric", (), leak, template), values
    values = column.to_numpy(dtype=object)
    return Attribute(name, "categorical", (), leak, template), values


def is_numeric(column: pd.Series) -> bool:
    """Say whether a column has cells, and all of them are finite numbers."""
    found = column.dropna()
    try:
        return bool(len(found)) and all(np.isfinite(number(cell)) for cell in found)
    except ValueError:
        return False


def vectors(sheet: Sheet, columns: Sequence[str]) -> np.ndarray:
    """Return the numbers of a vector: (N, W) float32, NaN in cases that have none.

    Raises:
        BadData: a cell is no number, or a case has some of the numbers and not others.
    """
    read = np.stack([numbers(sheet.rows[name], source=sheet.source) for name in columns], axis=1)
    blank = np.isnan(read)
    torn = blank.any(axis=1) & ~blank.all(axis=1)
    if torn.any():
        row = int(torn.argmax())
        column = sheet.rows[columns[int(blank[row].argmax())]]
        wanted = "filled, as the case has other numbers of this vector; or make it a table"
        raise bad_cell(column, row, wanted, source=sheet.source)
    return read.astype(np.float32)


def check_inputs(sheet: Sheet, used: Mapping[str, Sequence[str]]) -> None:
    """Refuse columns that are no inputs, or inputs of two modalities.

    Args:
        sheet: the table.
        used: the columns behind each modality's attributes.

    Raises:
        BadData: the label, the case or a fold is an input, or two modalities share a column.
    """
    manifest = sheet.file.manifest
    roles = {
        manifest.label.column if manifest.label else "": "the label",
        manifest.case: "the name of the case",
        manifest.split: "the split",
        manifest.folds: "the folds",
    }
    counts = Counter(name for names in used.values() for name in names)
    for modality, names in used.items():
        for name in names:
            where = sheet.file.at("modalities", modality)
            if roles.get(name):
                raise BadData(f"{where}: column {name} is {roles[name]} and cannot be an input")
            if counts[name] > 1:
                raise BadData(
                    f"{where}: column {name} is named twice, and what is absent in one modality "
                    "would stand in another; keep it in one"
                )
