"""Decoded pictures and volumes, so that folds, methods and processes decode each of them once.

What lies in files is kept in one file per modality below the cache folder, mapped into memory and
shared by all processes. Each row of it carries a hash of its content and of the file that it was
made from, so that a picture that was replaced, or a row that was damaged, is decoded again. Other
sources, and machines whose cache folder cannot be written, keep what they decode in memory.
"""

# N cases, n rows asked for; a row has shape (H, W, C), of a volume (D, H, W, C)

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math
import os
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.cache_folder import ROWS_SUFFIX, cache_folder, entry_path
from bench.data import Dataset, Modality, PictureArray, Pictures
from bench.errors import BadData
from bench.files import atomic_path
from bench.sources import sources_hash
from bench.spec import digest
from bench.volumes import VolumeArray, Volumes

MAX_BYTES = 4 * 2**30  # in memory: 27 000 RGB pictures of 224 x 224
CHUNK = 256  # rows decoded at a time
N_STAMP_BYTES = 8

Source = Pictures | Volumes


class _Rows(Protocol):
    """Where the decoded rows of one source are kept."""

    n_bytes: int  # of memory

    def unread(self, rows: np.ndarray) -> np.ndarray:
        """Return those of the rows that must be decoded."""
        ...

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Keep what was decoded."""
        ...

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return rows that were decoded before."""
        ...


class _InMemory:
    """Rows of an array that this process holds."""

    def __init__(self, source: Source, n_cases: int, row: np.ndarray):
        self.source = source  # kept alive, so that its id stays its own
        self.values = np.zeros((n_cases, *row.shape[1:]), row.dtype)
        self.decoded = np.zeros(n_cases, bool)
        self.n_bytes = self.values.nbytes

    def unread(self, rows: np.ndarray) -> np.ndarray:
        return rows[~self.decoded[rows]]

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        self.values[rows] = values
        self.decoded[rows] = True

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]


class _OnDisk:
    """Rows of a mapped file; each is preceded by its stamp, and looked at once per process."""

    n_bytes = 0

    def __init__(self, path: Path, files: Sequence[Path | None], row: np.ndarray):
        """Open the file, or make one of zeros.

        Args:
            path: of the file.
            files: (N,) what each row is decoded from.
            row: (0, ...) of the shape and type of the rows.

        Raises:
            OSError: the folder cannot be written, or has no room.
        """
        self.files = files
        record = np.dtype([("stamp", f"V{N_STAMP_BYTES}"), ("row", row.dtype, row.shape[1:])])
        _reserve(path, len(files) * record.itemsize)
        self.file = path.open("r+b")  # held: the name may be deleted, or given to another file
        weakref.finalize(self, self.file.close)
        self.records = np.memmap(self.file, record, mode="r", shape=(len(files),))
        self.sound = np.zeros(len(files), bool)

    def unread(self, rows: np.ndarray) -> np.ndarray:
        for row in rows[~self.sound[rows]]:
            stamp = self.records["stamp"][row].tobytes()
            self.sound[row] = stamp == self._stamp(row, self.records["row"][row])
        return rows[~self.sound[rows]]

    def put(self, rows: np.ndarray, values: np.ndarray) -> None:
        # Not through the map: an error of the disk would be a signal there, and end the process.
        for row, value in zip(rows, values, strict=True):
            self.file.seek(int(row) * self.records.itemsize)
            self.file.write(self._stamp(row, value) + value.tobytes())
        self.file.flush()
        self.sound[rows] = True

    def take(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.records["row"][rows])

    def _stamp(self, row: int, value: np.ndarray) -> bytes:
        """Hash a row's content together with path, size and time of its file."""
        path = self.files[row]
        status = path.stat() if path is not None and path.is_file() else None
        origin = (str(path), status and (status.st_size, status.st_mtime_ns))
        sha = hashlib.blake2b(repr(origin).encode(), digest_size=N_STAMP_BYTES)
        sha.update(value.tobytes())
        return sha.digest()


def _reserve(path: Path, n_bytes: int) -> None:
    """Make a file of zeros with all the room that it will need; leave one of that size alone."""
    if path.is_file() and path.stat().st_size == n_bytes:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, n_bytes)
        else:
            file.truncate(n_bytes)


class PictureCache:
    """Decoded rows by key, on disk or else in memory up to a number of bytes.

    In memory the longest unused key goes first, and a key whose rows alone exceed the bound is
    decoded each time. `n_decoded` counts what was decoded.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, *, on_disk: bool = False):
        self.max_bytes = max_bytes
        self.on_disk = on_disk
        self.n_decoded = 0
        self._kept: OrderedDict[Hashable, _Rows] = OrderedDict()

    def read(
        self, key: tuple[str, ...], source: Source, rows: np.ndarray, n_cases: int
    ) -> np.ndarray:
        """Return these rows, decoding those that were never asked for.

        Args:
            key: which modality of which files.
            source: where they come from. Two sources that are equal (the same paths and size)
                share what was decoded; a source without equality shares with nobody.
            rows: (n,) int.
            n_cases: N, rows that could be asked for.
        """
        kept = self._rows_of(key, source, n_cases)
        if kept is None:
            self.n_decoded += len(rows)
            return source.read(rows)
        unread = kept.unread(np.unique(rows))
        for start in range(0, len(unread), CHUNK):
            chunk = unread[start : start + CHUNK]
            kept.put(chunk, source.read(chunk))
            self.n_decoded += len(chunk)
        return kept.take(rows)

    def _rows_of(self, key: tuple[str, ...], source: Source, n_cases: int) -> _Rows | None:
        place = (cache_folder() if self.on_disk else None, key, _identity(source))
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        row = source.read(np.zeros(0, np.int64))  # of the shape and type, nothing is decoded
        path = _path_on_disk(key, source, n_cases, row) if self.on_disk else None
        made = self._open(path, source, row) or self._hold(source, n_cases, row)
        if made is not None:
            self._kept[place] = made
        return made

    def _open(self, path: Path | None, source: Any, row: np.ndarray) -> _Rows | None:
        if path is None:
            return None
        try:
            return _OnDisk(path, source.paths, row)
        except OSError:  # no right or no room there: memory serves too
            return None

    def _hold(self, source: Source, n_cases: int, row: np.ndarray) -> _Rows | None:
        n_bytes = n_cases * math.prod(row.shape[1:]) * row.itemsize
        if n_bytes > self.max_bytes:
            return None
        while sum(each.n_bytes for each in self._kept.values()) + n_bytes > self.max_bytes:
            self._kept.pop(next(key for key, each in self._kept.items() if each.n_bytes))
        return _InMemory(source, n_cases, row)


PICTURES = PictureCache(on_disk=True)


def _path_on_disk(key: tuple[str, ...], source: Any, n_cases: int, row: np.ndarray) -> Path | None:
    """Name the file of a source that says what it is; None for others.

    Such a source is a hashable dataclass whose field `paths` has the file of each case. The name
    holds all its other fields and the code that decodes.
    """
    paths = getattr(source, "paths", None)
    if isinstance(_identity(source), int) or not dataclasses.is_dataclass(source):
        return None
    if not isinstance(paths, tuple) or len(paths) != n_cases or not row.size == 0 < n_cases:
        return None
    settings = {
        each.name: repr(getattr(source, each.name))
        for each in dataclasses.fields(source)
        if each.name != "paths"
    }
    code = sources_hash([Path(inspect.getfile(type(source)))])
    known = [*key, type(source).__qualname__, settings, code, row.dtype.str, list(row.shape)]
    words = "-".join([*key[::2], "x".join(map(str, row.shape[1:-1]))])
    path = entry_path("pictures", words, digest([*known, n_cases]))
    return path.with_name(path.name + ROWS_SUFFIX)


def _identity(source: Source) -> int | Source:
    """Return what equal sources share: two configurations of one release can crop differently."""
    try:
        hash(source)
    except TypeError:  # also a frozen dataclass that holds an array
        return id(source)
    return source


def read_pictures(
    dataset: Dataset, modality: Modality, rows: np.ndarray, cache: PictureCache = PICTURES
) -> np.ndarray:
    """Return the pictures of these cases, which must all have one: uint8 (n, H, W, C).

    Raises:
        BadData: the pictures are not uint8 or have other channels than the modality declares.
    """
    pixels = _read(dataset, modality, rows, cache)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != modality.channels:
        raise BadData(
            f"{dataset.name}: pictures of {modality.name!r} must be uint8 (n, H, W, "
            f"{modality.channels}), got {pixels.dtype} {pixels.shape}; mend the dataset plugin"
        )
    return pixels


def read_volumes(
    dataset: Dataset, modality: Modality, rows: np.ndarray, cache: PictureCache = PICTURES
) -> np.ndarray:
    """Return the volumes of these cases, which must all have one: (n, D, H, W, C).

    Raises:
        BadData: they are neither uint8 nor float, have other axes or channels than the modality
            declares, or hold NaN or infinity.
    """
    voxels = _read(dataset, modality, rows, cache)
    plain = voxels.dtype == np.uint8 or voxels.dtype.kind == "f"
    if not plain or voxels.ndim != 5 or voxels.shape[4] != modality.channels:
        raise BadData(
            f"{dataset.name}: volumes of {modality.name!r} must be uint8 or float (n, D, H, W, "
            f"{modality.channels}), got {voxels.dtype} {voxels.shape}; mend the dataset plugin"
        )
    finite = np.isfinite(voxels).all(axis=(1, 2, 3, 4))
    if not finite.all():
        first = str(dataset.cases[rows[finite.argmin()]])
        raise BadData(
            f"{dataset.name}: {(~finite).sum()} present volumes of {modality.name!r} hold NaN or "
            f"infinity; first: case {first!r}; declare such volumes absent or fill them"
        )
    return voxels if voxels.dtype == np.uint8 else voxels.astype(np.float32, copy=False)


def _read(
    dataset: Dataset, modality: Modality, rows: np.ndarray, cache: PictureCache
) -> np.ndarray:
    source: Any = dataset.content[modality.name]
    if isinstance(source, PictureArray | VolumeArray):  # in memory already
        return source.read(rows)
    key = (dataset.name, dataset.fingerprint, modality.name)
    return cache.read(key, source, rows, dataset.n_cases)
