"""The table of a folder without one, whose sub-folders tell the classes of its files."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadData
from bench.manifest.columns import PARTS
from bench.manifest.folder_layouts import Belonging, belongings_of, places_of
from bench.manifest.inspection import MAX_CLASSES, Column, no_classes
from bench.manifest.matching import Files, Found, kind_of
from bench.wording import listed, some_of

CASE, LABEL, SPLIT = "case", "label", "split"  # columns
ASKED = "put a CSV or XLSX file with a row per case: its name, its class and the paths of its files"


@dataclass(frozen=True)
class FolderCase:
    """A case, from where its files lie."""

    name: str
    label: str
    part: str  # train, valid or test; empty: the folder has none
    files: Mapping[str, Path]  # by modality


def cases_of(folder: Path, files: Sequence[Path]) -> list[FolderCase]:
    """Tell the cases of a folder from its sub-folders.

    Args:
        folder: without a table.
        files: all below it.

    Raises:
        BadData: no sub-folder holds a picture or volume, or they can be read in several ways;
            says why, and what the table is to hold that helps.
    """
    found = [path for path in files if kind_of(path) != "ignored"]
    if all(path.parent == folder for path in found):
        raise BadData(f"{folder}: no table is in it; {ASKED}")
    try:
        return _cases(belongings_of(places_of(folder, found)))
    except BadData as error:
        raise BadData(
            f"{folder}: no table is in it, and its folders do not tell the cases, as {error}; "
            f"{ASKED}"
        ) from None


def _cases(found: Sequence[Belonging]) -> list[FolderCase]:
    """Gather the files of each case.

    Raises:
        BadData: too few or too many classes, two files of one case and modality, or pictures and
            volumes in one modality.
    """
    files: dict[tuple[str, str, str], dict[str, Path]] = {}
    kinds: dict[str, Path] = {}
    for each in found:
        other = files.setdefault(each.case, {}).setdefault(each.modality, each.path)
        if other != each.path:
            raise BadData(f"{other.name!r} and {each.path.name!r} are two files of one name")
        other = kinds.setdefault(each.modality, each.path)
        if kind_of(other) != kind_of(each.path):
            raise BadData(
                f"{other.name!r} and {each.path.name!r} are a picture and a volume of one kind"
            )
    n_cases = Counter(label for _, label, _ in files)
    if sum(n > 1 for n in n_cases.values()) < 2:
        raise BadData(f"fewer than two classes of {some_of(sorted(n_cases))} have two cases")
    if len(n_cases) > MAX_CLASSES:
        raise BadData(f"{min(n_cases)!r} and {len(n_cases) - 1} others are too many to be classes")
    twice = len({name for *_, name in files}) < len(files)
    return [
        FolderCase("/".join(filter(None, case)) if twice else case[2], case[1], part, of_case)
        for case, of_case in files.items()
        for part in [PARTS.get(case[0].lower(), "")]
    ]


def columns_of(cases: Sequence[FolderCase]) -> dict[str, str]:
    """Name the column of each modality, in their order."""
    names = sorted({modality for each in cases for modality in each.files})
    taken = (CASE, LABEL, SPLIT)
    columns = {name: f"{name} file" if name.lower() in taken else name for name in names}
    # in a manifest braces stand for a column
    return {name: each.replace("{", "(").replace("}", ")") for name, each in columns.items()}


def table_of(cases: Sequence[FolderCase], root: Path | None) -> str:
    """Write the table of cases as CSV.

    Args:
        cases: one per row.
        root: to which paths are relative; None: they are absolute.

    Raises:
        BadData: a name is not UTF-8, or would be read without its blanks.
    """
    columns = columns_of(cases)
    split = any(each.part for each in cases)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, [CASE, LABEL, *[SPLIT][: int(split)], *columns.values()]))
    for each in cases:
        paths = [_path(each.files.get(modality), root) for modality in columns]
        writer.writerow(map(_cell, [each.name, each.label, *[each.part][: int(split)], *paths]))
    return text.getvalue()


def _path(path: Path | None, root: Path | None) -> str:
    if path is None:
        return ""
    return (path.absolute() if root is None else path.relative_to(root)).as_posix()


def _cell(text: str) -> str:
    readable = text.isascii() or text.encode(errors="replace").decode() == text
    if text != text.strip() or not readable:
        raise BadData(
            f"the name {text!r} begins or ends with a blank, or is not UTF-8; rename it to have "
            "it in a table"
        )
    return text


def found_in(cases: Sequence[FolderCase], table: Path, *, outside: bool) -> Found:
    """Say of the table of cases what `bench new dataset` finds out of other tables.

    Args:
        cases: its rows.
        table: where it is to lie, beside the manifest.
        outside: the files lie elsewhere than the table.
    """
    import pandas as pd

    labels = [each.label for each in cases]
    columns = [
        Column(CASE, "case"),
        Column(LABEL, "label", f"of the folders: {some_of(sorted(set(labels)))}"),
    ]
    if parts := {each.part for each in cases} - {""}:
        usable = {"train", "test"} <= parts
        note = f"{listed(sorted(parts))} only, so that folds are drawn"
        columns.append(Column(SPLIT, "split") if usable else Column(SPLIT, "ignored", note))
    sources = []
    for modality, column in columns_of(cases).items():
        there = [each.files[modality] for each in cases if modality in each.files]
        sources.append(Files(column, kind_of(there[0]), len(there), there[0]))
    return Found(
        table.parent,
        table,
        (),
        "",
        ",",
        (),
        tuple(no_classes(pd.Series(labels))),
        tuple(columns),
        tuple(sources),
        len(cases),
        made=True,
        outside=outside,
    )
