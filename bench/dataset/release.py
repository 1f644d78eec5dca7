"""Where a release lies, which of its files are there, and their fingerprint."""

# N rows of a table, or cases

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from bench.errors import BadData, BadRequest
from bench.wording import some_of

MissingFiles = Literal["error", "absent"]  # what a file that is not in the folder is
DATA_VARIABLE = "BENCH_DATA_DIR"
PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def find_root(name: str, data_root: Path | None, needed_paths: Sequence[str]) -> Path:
    """Find the folder that holds a release.

    It is the folder that was given (`--data-root`, or else the environment variable
    BENCH_DATA_DIR), or the sub-folder of it that is named after the dataset (- may be _).

    Args:
        name: the dataset's name.
        data_root: the folder that the user gave, or None.
        needed_paths: files and folders that must exist, relative to the release's folder.

    Raises:
        BadRequest: no folder was given.
        BadData: something needed is missing; all of it is listed.
    """
    return find_layout(name, data_root, {"release": needed_paths})[0]


def find_layout(
    name: str, data_root: Path | None, layouts: Mapping[str, Sequence[str]]
) -> tuple[Path, str]:
    """Find the folder that holds a release in one of several layouts, and say in which one.

    The folder is looked for as by `find_root`.

    Args:
        name: the dataset's name.
        data_root: the folder that the user gave, or None.
        layouts: by name, the files and folders that must exist; the first that fits is taken, and
            an error speaks of the one that fits best.

    Raises:
        BadRequest: no folder was given.
        BadData: something needed is missing; all of it is listed.
    """
    given = data_root or os.environ.get(DATA_VARIABLE)
    if not given:
        asked = " or ".join(some_of(needed) for needed in layouts.values())
        raise BadRequest(
            f"{name} is read from files and no folder was given; set --data-root or "
            f"{DATA_VARIABLE} to the folder that holds {asked}"
        )
    folder = Path(given).expanduser()
    named = [folder / each for each in (name, name.replace("-", "_"))]
    candidates = [*filter(Path.is_dir, named), folder]
    missing = {
        (candidate, layout): [path for path in needed if not (candidate / path).exists()]
        for candidate in candidates
        for layout, needed in layouts.items()
    }
    best = min(missing, key=lambda each: len(missing[each]) / len(layouts[each[1]]))
    if missing[best]:
        raise BadData(
            f"{name}: {len(missing[best])} of {len(layouts[best[1]])} needed files are not in "
            f"{best[0]}: {some_of(missing[best])}; point --data-root at the unpacked release"
        )
    return best


def files_there(
    paths: Sequence[Path | None], missing_files: MissingFiles, *, folder: Path, source: str
) -> tuple[Path | None, ...]:
    """Return the files that are there, None for those that are not.

    Args:
        paths: (N,) one per case; None has no file and misses none.
        missing_files: `absent` takes a missing file for an absent modality, as long as one is
            there.
        folder: of the release, for the error.
        source: what names the files, for the error.

    Raises:
        BadData: a file is missing and that is a fault, or none is there at all; counts them and
            names the first.
    """
    there = tuple(path if path is not None and path.is_file() else None for path in paths)
    missing = [path for path, found in zip(paths, there, strict=True) if path and found is None]
    n_needed = sum(path is not None for path in paths)
    if missing and (missing_files == "error" or len(missing) == n_needed):
        names = [os.path.relpath(path, folder) for path in missing]
        raise BadData(
            f"{source}: {len(missing)} of {n_needed} files that it names are not under {folder}: "
            f"{some_of(names)}; complete the release, or set missing_files to absent if some are "
            "there"
        )
    return there


def fingerprint_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of files: names and sizes of all, content of those that are no pictures.

    Names are relative to the folder that all share, so a release can move. Pictures are not
    opened: one that is replaced by another of the same name and size goes unnoticed, and two
    thousand of them cost milliseconds.
    """
    files = list(paths)
    root = os.path.commonpath([path.parent for path in files])
    sha = hashlib.sha256()
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        sha.update(f"{name}\x1f{path.stat().st_size}\n".encode())
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            sha.update(path.read_bytes())
    return sha.hexdigest()


def fingerprint_arrays(*arrays: np.ndarray) -> str:
    """Return the SHA-256 of the shapes, types and values of arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.shape}\x1f{array.dtype.str}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
