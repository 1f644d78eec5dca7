"""Files that a manifest names: kept inside the data root, and named with their row in errors."""

# N cases, n rows asked for

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data import ImageFiles
from bench.dataset import MissingFiles, bad_cell
from bench.errors import BadData
from bench.manifest.reading import ManifestFile
from bench.manifest.spelling import SpelledPaths
from bench.manifest.spreadsheet import Sheet
from bench.volumes import VolumeFiles

if TYPE_CHECKING:
    import pandas as pd

Read = Callable[[np.ndarray], np.ndarray]

FIELD = re.compile(r"\{([^{}]*)\}")
N_SAMPLES = 16  # blocks of a large file that its fingerprint looks at
BLOCK = 4096


@dataclass(frozen=True)
class CaseFiles:
    """One file per case or None, and the cell that names each."""

    paths: tuple[Path | None, ...]
    places: tuple[str, ...]  # `cases.csv, line 3: photo`


@dataclass(frozen=True)
class CasePictures(ImageFiles):
    """Picture files whose faults name the row of the table."""

    places: tuple[str, ...] = ()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return uint8 (n, size, size, channels).

        Raises:
            BadData: a picture is missing or cannot be decoded; row, column and file are named.
        """
        return _read_each(super().read, self.places, rows)


@dataclass(frozen=True)
class CaseVolumes(VolumeFiles):
    """Volume files whose faults name the row of the table."""

    places: tuple[str, ...] = ()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return float32 (n, D, H, W, channels).

        Raises:
            BadData: a volume is missing, damaged or of another shape; row, column and file are
                named.
        """
        return _read_each(super().read, self.places, rows)


def _read_each(read_rows: Read, places: Sequence[str], rows: np.ndarray) -> np.ndarray:
    if not len(rows):
        return read_rows(rows)
    read = []
    for row in rows:
        try:
            read.append(read_rows(np.array([row])))
        except BadData as error:
            raise BadData(f"{places[row]}: {error}") from error
    return np.concatenate(read)


def case_files(
    sheet: Sheet, said: str, root: Path, missing_files: MissingFiles, *keys: str
) -> CaseFiles:
    """Find the file of each case.

    Args:
        sheet: the table.
        said: a column of paths, or a path with `{case}` or `{column}` in it.
        root: the data root, to which paths are relative.
        missing_files: `absent` takes a file that is not there for an absent modality.
        keys: where the manifest says it.

    Raises:
        BadData: a path leaves the data root, or a file is missing; the row is named. Or no file is
            there at all, but for cases to predict.
    """
    column, shown = _written(sheet, said, keys)
    folder = os.path.realpath(root)
    inside = None if sheet.file.manifest.allow_outside else folder
    spelled = SpelledPaths(root)
    paths = [
        None if not isinstance(cell, str) else _path(column, row, spelled, inside, sheet.source)
        for row, cell in enumerate(column)
    ]
    there = tuple(path if path is not None and path.is_file() else None for path in paths)
    missing = [row for row, path in enumerate(paths) if path is not None and there[row] is None]
    n_named = sum(path is not None for path in paths)
    none_there = sheet.labelled and len(missing) == n_named
    if missing and (missing_files == "error" or none_there):
        raise BadData(
            f"{sheet.source}, line {column.index[missing[0]]}: {shown} names "
            f"{column.iloc[missing[0]]!r}, which is not in {root}; {len(missing)} of {n_named} "
            "files are missing; complete them, or set missing_files to absent if some are there"
        )
    if none_there and not n_named:
        raise BadData(f"{sheet.file.at(*keys)}: {shown} is blank in every case of {sheet.source}")
    places = tuple(f"{sheet.source}, line {line}: {shown}" for line in column.index)
    return CaseFiles(there, places)


def _written(sheet: Sheet, said: str, keys: tuple[str, ...]) -> tuple[pd.Series, str]:
    """Return the path of each case as written, NaN where none is, and what names it in errors."""
    names = FIELD.findall(said)
    if not names:
        return sheet.column(said, *keys), said
    columns = {
        name: sheet.column(sheet.file.manifest.case if name == "case" else name, *keys)
        for name in names
    }
    texts = [
        FIELD.sub(lambda found, row=row: columns[found[1]].iloc[row], said)  # type: ignore[misc]
        if all(isinstance(column.iloc[row], str) for column in columns.values())
        else np.nan
        for row in range(len(sheet.rows))
    ]
    import pandas as pd

    return pd.Series(texts, index=sheet.rows.index, name=said, dtype=object), said


def _path(
    column: pd.Series, row: int, spelled: SpelledPaths, inside: str | None, source: str
) -> Path:
    """Return the path of a cell.

    Raises:
        BadData: it leaves the folder `inside`, also by a link, is no path, or is that of two files.
    """
    try:
        path = spelled.find(column.iloc[row])
        real = os.path.realpath(path)
        path.is_file()
    except (OSError, ValueError):
        raise bad_cell(column, row, "a path", source=source) from None
    except BadData as error:
        raise BadData(f"{source}, line {column.index[row]}: {column.name}: {error}") from None
    if inside is not None and os.path.commonpath([real, inside]) != inside:
        wanted = f"a path inside {spelled.root}, links followed, unless allow_outside: true is said"
        raise bad_cell(column, row, wanted, source=source)
    return path


def path_inside(file: ManifestFile, root: Path, said: str, *keys: str) -> Path:
    """Return the path of one file that a manifest names.

    Raises:
        BadData: it leaves the data root, also by a link, or two files have this name.
    """
    try:
        path = SpelledPaths(root).find(said)
        real, inside = os.path.realpath(path), os.path.realpath(root)
        path.is_file()  # too long a name is found out here
    except (OSError, ValueError):
        raise BadData(f"{file.at(*keys)}: {said!r} is no path") from None
    if not file.manifest.allow_outside and os.path.commonpath([real, inside]) != inside:
        raise BadData(
            f"{file.at(*keys)}: {said!r} leaves the data root {root}, links followed; move it "
            "there, or say allow_outside: true"
        )
    return path


def fingerprint(table: Path, files: Iterable[Path], root: Path) -> str:
    """Return the SHA-256 of the table, and of names, sizes and samples of the other files.

    Of a file above 64 KiB sixteen blocks over its whole length are read: thousands of volumes take
    a second, and one that was replaced does not go unnoticed.
    """
    sha = hashlib.sha256(table.read_bytes())
    named = sorted((os.path.relpath(path, root), path) for path in set(files))
    for name, path in named:
        size = path.stat().st_size
        sha.update(f"{name}\x1f{size}\n".encode(errors="surrogateescape"))
        with path.open("rb") as file:
            if size <= N_SAMPLES * BLOCK:
                sha.update(file.read())
                continue
            for sample in range(N_SAMPLES):
                file.seek((size - BLOCK) * sample // (N_SAMPLES - 1))
                sha.update(file.read(BLOCK))
    return sha.hexdigest()
