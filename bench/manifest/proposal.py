"""Write a first manifest for a folder of one's own: guesses, with the reason beside each."""

# N cases

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bench.dataset import read_table
from bench.dataset.csv_records import DELIMITERS
from bench.dataset.workbooks import read_sheet
from bench.errors import BadData, BadRequest
from bench.manifest.class_folders import ASKED, cases_of, found_in, table_of
from bench.manifest.inspection import Column, absent_words, inspect, no_classes
from bench.manifest.matching import (
    MAX_SOURCES,
    Files,
    Found,
    files_by_case,
    files_of_column,
    with_stems,
)
from bench.manifest.schema import NAME
from bench.manifest.spreadsheet import manner_of
from bench.volumes import NUMPY

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".tsv", ".xlsx")
MAX_FILES = 200_000  # looked at
MANY = 50  # different cells of a column; more say no more
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_/.]*([ -][A-Za-z0-9_/.]+)*")
NO_COLUMN = "?"
SIDE = 224


def new_dataset(folder: Path, out: Path | None, taken: Sequence[str]) -> Path:
    """Write a manifest that describes a folder as well as can be guessed; return its path.

    Args:
        folder: with a CSV or XLSX table, and perhaps pictures and volumes; or with sub-folders of
            pictures or volumes that tell their classes, of which a table is then written as well.
        out: where to write; None: into the folder itself.
        taken: names of datasets that there are.

    Raises:
        BadRequest: there is no such folder, or the manifest or its table is there already.
        BadData: there is no table nor folders that tell the classes, or none that can be read.
    """
    if not folder.is_dir():
        raise BadRequest(f"no folder is at {str(folder)!r}; name the folder of your data")
    name = "-".join(re.findall(r"[a-z0-9]+", folder.resolve().name.lower()))
    name = name if NAME.fullmatch(name) else "own-data"
    name = f"{name}-own" if name in taken else name
    path = (out or folder) / f"{name}.yaml"
    files, texts = _walk(folder), {}
    if any(each.suffix.lower() in TABLES for each in files):
        found = look_at(folder, files)
    else:
        found, table = _made(folder, files, path)
        texts[found.table] = table
    texts[path] = "\n".join(_lines(found, name)) + "\n"
    _write(texts)
    return path


def _made(folder: Path, files: Sequence[Path], manifest: Path) -> tuple[Found, str]:
    """Make a table of folders that tell the classes; return what is in it, and its text.

    Raises:
        BadData: the folders do not tell the classes, or hold more files than are looked at.
    """
    if len(files) == MAX_FILES:
        raise BadData(
            f"{folder}: no table is in it, and more than {MAX_FILES - 1} files, too many to make "
            f"one of; {ASKED}"
        )
    cases = cases_of(folder, files)
    outside = manifest.parent.resolve() != folder.resolve()
    text = table_of(cases, None if outside else folder)  # refuses names that no table holds
    return found_in(cases, manifest.with_suffix(".csv"), outside=outside), text


def _write(texts: Mapping[Path, str]) -> None:
    """Write the files of a proposal, none over another.

    Raises:
        BadRequest: one is there already, or cannot be written.
    """
    try:
        for path in texts:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                raise FileExistsError
        for path, text in texts.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError:
        there = path if path.parent.is_dir() else path.parent
        raise BadRequest(f"{str(there)!r} is already there; move it, or choose --folder") from None
    except OSError as error:
        raise BadRequest(f"{str(path)!r} cannot be written ({error.strerror})") from None


def look_at(folder: Path, files: Sequence[Path]) -> Found:
    """Find the table of a folder, guess its columns, and match the other files with its cases.

    Args:
        folder: of the data.
        files: all below it, with a table among them.

    Raises:
        BadData: no table can be read, or no column names each row.
    """
    tables = [path for path in files if path.suffix.lower() in TABLES]
    table, rows, encoding = _largest(tables)
    absent = absent_words(rows)
    rows = rows.mask(rows.isin(absent))
    columns = [with_stems(each, rows[each.name], files) for each in inspect(rows)]
    case = next((each.name for each in columns if each.role == "case"), None)
    if case is None:
        raise BadData(f"{table}: no column names each row once; add one with a number per case")
    sources = [files_of_column(each, rows[each.name], folder, files) for each in columns]
    named = [each for each in sources if each is not None]
    named += [] if named else files_by_case(folder, files, set(rows[case]))
    delimiter = manner_of(table, encoding=encoding)[0] if table.suffix.lower() != ".xlsx" else ","
    return Found(
        folder,
        table,
        tuple(path for path in tables if path != table),
        encoding,
        delimiter,
        absent,
        tuple(
            word for each in columns if each.role == "label" for word in no_classes(rows[each.name])
        ),
        tuple(columns),
        tuple(named[:MAX_SOURCES]),
        len(rows),
    )


def _walk(folder: Path) -> list[Path]:
    """List the files below a folder in order, hidden ones left out."""
    found = (
        Path(top, name)
        for top, folders, names in os.walk(folder)
        for name in names
        if not folders.sort() and not name.startswith(".")
    )
    return sorted(islice(found, MAX_FILES))


def _largest(tables: Sequence[Path]) -> tuple[Path, pd.DataFrame, str]:
    """Return the table that says most of those that can be read.

    Raises:
        BadData: none can be read; says what is wrong with the first.
    """
    read, faults = [], []
    for path in tables:
        try:
            read.append((path, *_rows(path)))
        except BadData as error:
            faults.append(error)
    if not read:
        raise faults[0]
    return max(read, key=lambda each: (each[1].nunique().clip(upper=MANY).sum(), each[1].size))


def _rows(path: Path) -> tuple[pd.DataFrame, str]:
    """Read a table, as UTF-8 or else as Windows writes it; return the encoding that was guessed."""
    if path.suffix.lower() == ".xlsx":
        return read_sheet(path, ()), ""
    for encoding in ("", "cp1252"):
        try:
            delimiter, used = manner_of(path, encoding=encoding)
            return read_table(path, (), delimiter=delimiter, encoding=used), encoding
        except BadData as error:
            if encoding or not isinstance(error.__cause__, UnicodeDecodeError):
                raise
    raise AssertionError("the second encoding returns or raises")


# the text


def _lines(found: Found, name: str) -> Iterator[str]:
    """Write the manifest with the reason of each guess beside it."""
    yield f"# Proposed by `bench new dataset` from {found.n_cases} rows; correct it, then:"
    yield "#   bench prepare THIS.yaml"
    yield f"name: {name}"
    yield 'description: ""'
    yield "citation: not told  # how the data are to be cited"
    yield "licence: not told"
    table = found.table.relative_to(found.folder).as_posix()
    yield f"table: {_quoted(table)}{_others(found)}"
    if found.outside:
        yield "allow_outside: true  # the table names the files by their whole paths"
    if found.encoding:
        yield f"encoding: {found.encoding}  # a guess, as it is not UTF-8: look at the letters"
    if found.delimiter in DELIMITERS and found.delimiter != ",":  # others the file itself declares
        mark = found.delimiter.replace("\t", "tab")
        yield f"delimiter: {_quoted(mark)}  # {DELIMITERS[found.delimiter]}"
    yield f"case: {_quoted(found.named('case')[0].name)}  # filled, and another in each row"
    yield _label(found)
    for role, reason in ROLES.items():
        for each in found.named(role)[:1]:
            yield f"{role}: {_quoted(each.name)}  # {reason}"
    if found.made:
        yield "# group: add a column of patients to the table if one of them has several rows"
    if found.absent:
        yield f"missing_values: [{', '.join(map(_quoted, found.absent))}]  # cells that mean absent"
    if any(each.n_cases < found.n_cases for each in found.files if "{" in each.path):
        yield "missing_files: absent  # some cases lack some files; error refuses that"
    yield from _modalities(found)
    yield from _ignored(found)


def _label(found: Found) -> str:
    labels = found.named("label")
    if not labels:
        return f"label: {_quoted(NO_COLUMN)}  # no column looks like one: name it"
    name = _quoted(labels[0].name)
    if not found.no_classes:
        return f"label: {name}  # {labels[0].note}"
    words = ", ".join(_quoted(each) for each in found.no_classes)
    reason = f"{labels[0].note}; blank, or in one row only, are left out"
    return f"label: {{column: {name}, leave_out: [{words}]}}  # {reason}"


ROLES = {
    "group": "these cases never part",
    "split": "train, valid and test are there",
    "folds": "whole numbers",
}


def _others(found: Found) -> str:
    if found.made:
        return "  # made from the folders' names: a row per case, blank where it lacks a file"
    names = _shown(", ".join(path.name for path in found.others[:3]))
    return f"  # says most; left aside: {names}" if names else ""


def _modalities(found: Found) -> Iterator[str]:
    yield "modalities:"
    sources = _names(found)
    for name, each in sources.items():
        yield f"  {name}: {{{each.kind}: {_quoted(each.path)}, {_form(each)}"
    images = [name for name, each in sources.items() if each.kind == "image"]
    if found.apart:
        yield "  # no case is in two of these: if they are one, give a column of paths and name it"
    elif len(images) > 1:
        yield f"  # add `encoder: shared` to those of {', '.join(images)} that look alike"
    attributes = found.named("numeric", "categorical")
    if attributes:
        yield "  clinical:  # part these into several modalities, if they come from several sources"
        yield "    table:"
        for column in attributes:
            yield f"      {_quoted(column.name)}: {column.role}{_remark(column)}"
    for place, column in enumerate(found.named("report")):
        yield f"  report{place + 1 if place else ''}:  # as a whole; `rules` finds attributes in it"
        yield f"    report: {_quoted(column.name)}"
    if not (sources or attributes or found.named("report")):
        yield "  # nothing looks like an input: name columns or files"
    leaks = [each for each in attributes if each.note == "LEAK"]
    if leaks:
        yield "leaks:"
        for column in leaks:
            yield f"  {_quoted(column.name)}: each of its words has one class in this table"


def _remark(column: Column) -> str:
    if column.note == "LEAK":
        return "  # does it give the label away? see leaks"
    if column.note:
        return f"  # {column.note}"
    words = _shown(", ".join(column.words[:6]))
    return f"  # {words[:60]}{', ...' if len(column.words) > 6 else ''}" if words else ""


def _form(each: Files) -> str:
    """Write size or shape of the files, with what the first looks like."""
    note = f"  # {each.n_cases} cases"
    if each.kind == "volume":
        shape, channels = _volume_shape(each.example)
        extra = f", channels: {channels}" if channels > 1 else ""
        return f"shape: [{', '.join(map(str, shape))}]{extra}}}{note}, shape of the first"
    size, channels = _picture_form(each.example)
    return f"size: {SIDE}, channels: {channels}}}{note}{size}"


def _picture_form(path: Path) -> tuple[str, int]:
    """Return the size of a picture in words, and its channels."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L", "LA", "I", "I;16", "F")
            return f", the first is {image.width} x {image.height}", 1 if grey else 3
    except Exception:  # Pillow raises many kinds; `bench prepare` names the file
        return ", the first cannot be read", 3


def _volume_shape(path: Path) -> tuple[tuple[int, ...], int]:
    """Return slices, rows and columns of a volume, and its channels; ones if it is not readable."""
    import numpy as np

    try:
        if path.name.lower().endswith(NUMPY):
            found = np.load(path, mmap_mode="r", allow_pickle=False).shape
        else:
            import nibabel

            image = nibabel.as_closest_canonical(nibabel.load(path))
            found = (*image.shape[2::-1], *image.shape[3:])
    except Exception:  # the decoders raise many kinds; `bench prepare` names the file
        return (1, 1, 1), 1
    shape = tuple(int(side) for side in found)
    return (shape[:3], shape[3] if len(shape) > 3 else 1) if len(shape) >= 3 else ((1, 1, 1), 1)


def _names(found: Found) -> Mapping[str, Files]:
    """Name each kind of file by the words of its path that no other has."""
    names: dict[str, Files] = {}
    for each in found.files:
        words = re.findall(
            r"[A-Za-z][A-Za-z0-9]*", re.sub(r"\{case\}|\.[A-Za-z.]+$", " ", each.path)
        )
        name = words[-1] if words else each.kind
        while name in names or name in ("clinical", "report"):
            name += "_"
        names[name] = each
    return names


def _ignored(found: Found) -> Iterator[str]:
    ignored = found.named("ignored")
    if ignored:
        yield "# columns left out:"
        for each in ignored:
            yield f"#   {_quoted(each.name)}: {_shown(each.note)}"


def _quoted(text: str) -> str:
    """Write a word of YAML, in quotes where it needs them."""
    if PLAIN.fullmatch(text) and text.lower() not in ("null", "true", "false", "yes", "no"):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in quoted)


def _shown(text: str) -> str:
    """Write a word in a comment."""
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))
