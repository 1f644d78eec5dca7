"""Find out which files of a folder belong to which cases of a table."""

# N cases

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.dataset.release import PICTURE_SUFFIXES
from bench.dataset.tables import composed
from bench.manifest.inspection import Column, Role
from bench.volumes import NIFTI, NUMPY

if TYPE_CHECKING:
    import pandas as pd

MAX_SOURCES = 8  # kinds of files
MIN_SHARE = 0.1  # of the cases that a kind of file must belong to
PIECE = re.compile(r"[^_\-. ]+")
ENDING = re.compile(r"(\.nii)?\.[^.]*$", re.IGNORECASE)


@dataclass(frozen=True)
class Files:
    """A kind of file that cases have: `photos/{case}.png`."""

    path: str  # a column, or a path with {case} or a column in it
    kind: Role  # image or volume
    n_cases: int
    example: Path
    cases: frozenset[str] = frozenset()  # that have one, where it is found by their names


@dataclass(frozen=True)
class Found:
    """What was found in a folder."""

    folder: Path
    table: Path
    others: tuple[Path, ...]  # tables that were left aside
    encoding: str  # empty: UTF-8
    delimiter: str
    absent: tuple[str, ...]
    no_classes: tuple[str, ...]  # cells of the label
    columns: tuple[Column, ...]
    files: tuple[Files, ...]
    n_cases: int
    made: bool = False  # the table, from the names of folders
    outside: bool = False  # the files lie elsewhere than the table

    @property
    def apart(self) -> bool:
        """Several kinds of files, and no case has two of them: one in several places?"""
        cases = [case for each in self.files for case in each.cases]
        return len(self.files) > 1 and 0 < len(cases) == len(set(cases))

    def named(self, *roles: str) -> list[Column]:
        """Return the columns of these roles."""
        return [each for each in self.columns if each.role in roles]


def with_stems(column: Column, cells: pd.Series, files: Sequence[Path]) -> Column:
    """Take words that are all names of pictures or volumes, without their endings, for paths."""
    if column.role not in ("ignored", "categorical"):
        return column
    paths = _by_stem(cells, files)
    alike = {(kind_of(path), path.parent, ending_of(path)) for path in paths.values()}
    if len(paths) < max(2, cells.nunique()) or len(alike) > 1:
        return column
    return replace(column, role=alike.pop()[0], note="")


def _by_stem(cells: pd.Series, files: Sequence[Path]) -> dict[str, Path]:
    """Return the picture or volume that each cell names without its ending."""
    words = set(cells.dropna())
    stems = {
        composed(path.name).removesuffix(ending_of(path)): path
        for path in files
        if kind_of(path) != "ignored"
    }
    return {word: stems[word] for word in words & stems.keys()}


def ending_of(path: Path) -> str:
    """Return the end of a file's name: `.png`, `.nii.gz`."""
    found = ENDING.search(path.name)
    return found[0] if found else ""


def files_of_column(
    column: Column, cells: pd.Series, folder: Path, files: Sequence[Path]
) -> Files | None:
    """Find the files that a column of paths names, also where it leaves out folder or ending."""
    if column.role not in ("image", "volume"):
        return None
    present = cells.dropna()
    first = str(present.iloc[0])
    stems = _by_stem(present, files)
    ending = ending_of(stems[first]) if first in stems else ""
    last = f"{first}{ending}"
    found = next((path for path in files if _named(path).endswith(f"/{last}")), folder / last)
    prefix = _named(found.relative_to(folder)).removesuffix(last)
    path = f"{prefix}{{{column.name}}}{ending}" if prefix or ending else column.name
    return Files(path, column.role, len(present), found)


def _named(path: Path) -> str:
    return composed(path.as_posix())


def files_by_case(folder: Path, files: Sequence[Path], cases: set[str]) -> list[Files]:
    """Find the kinds of files whose paths hold the name of a case, the most frequent first."""
    examples: dict[str, Path] = {}
    found: dict[str, set[str]] = {}
    for path in files:
        if kind_of(path) != "ignored":
            template, case = _template(_named(path.relative_to(folder)), cases)
            if case:
                examples.setdefault(template, path)
                found.setdefault(template, set()).add(case)
    least = max(2, MIN_SHARE * len(cases))
    return [
        Files(
            template, kind_of(examples[template]), len(named), examples[template], frozenset(named)
        )
        for template, named in sorted(found.items(), key=lambda each: (-len(each[1]), each[0]))
        if len(named) >= least
    ]


def kind_of(path: Path) -> Role:
    """Say whether a file is a picture or a volume by its name; `ignored` if it is neither."""
    name = path.name.lower()
    if name.endswith((*NIFTI, NUMPY)):
        return "volume"
    return "image" if path.suffix.lower() in PICTURE_SUFFIXES else "ignored"


def _template(path: str, cases: set[str]) -> tuple[str, str]:
    """Put {case} where a path holds a case's name as whole words; return it with the last such.

    Both are empty where the path holds none.
    """
    marked = [mark_case(part, cases) for part in path.split("/")]
    case = next((each for _, each in reversed(marked) if each), "")
    if not case or "{" in path or "}" in path:
        return "", ""
    return "/".join(part for part, _ in marked), case


def mark_case(part: str, cases: set[str]) -> tuple[str, str]:
    """Put {case} for the longest run of words of a file's or folder's name that is a case."""
    words = [(found.start(), found.end()) for found in PIECE.finditer(part)]
    runs = [
        (start, end)
        for place, (start, _) in enumerate(words)
        for _, end in words[place : place + 8]
        if part[start:end] in cases
    ]
    if not runs:
        return part, ""
    start, end = max(runs, key=lambda run: run[1] - run[0])
    return f"{part[:start]}{{case}}{part[end:]}", part[start:end]
