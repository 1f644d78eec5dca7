"""Decoded pictures, kept in memory so that the folds and methods of one process decode once."""

# N cases, H W C picture height, width, channels

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from bench.data import Dataset, Modality, PictureArray, Pictures
from bench.errors import BadData

MAX_BYTES = 4 * 2**30  # 27 000 RGB pictures of 224 x 224


@dataclass(frozen=True)
class _Entry:
    source: Pictures  # kept alive, so that its id stays its own
    pixels: np.ndarray  # (N, H, W, C) uint8
    decoded: np.ndarray  # (N,) bool


class PictureCache:
    """Decoded pictures by key, up to a number of bytes; the longest unused key goes first.

    A key whose pictures alone exceed the bound is decoded each time. `n_decoded` counts pictures.
    """

    def __init__(self, max_bytes: int = MAX_BYTES):
        self.max_bytes = max_bytes
        self.n_decoded = 0
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def read(self, key: Hashable, pictures: Pictures, rows: np.ndarray, n_cases: int) -> np.ndarray:
        """Return uint8 (n, H, W, C) of these rows, decoding those that were never asked for.

        Args:
            key: which modality of which files.
            pictures: where they come from. Two sources that are equal (the same paths and size)
                share what was decoded; a source without equality shares with nobody.
            rows: (n,) int.
            n_cases: N, rows that could be asked for.
        """
        entry = self._entry((key, _identity(pictures)), pictures, n_cases)
        if entry is None:
            self.n_decoded += len(rows)
            return pictures.read(rows)
        unread = np.unique(rows[~entry.decoded[rows]])
        if len(unread):
            entry.pixels[unread] = pictures.read(unread)
            entry.decoded[unread] = True
            self.n_decoded += len(unread)
        return entry.pixels[rows]

    def _entry(self, key: Hashable, pictures: Pictures, n_cases: int) -> _Entry | None:
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        shape = (n_cases, *picture_shape(pictures))
        n_bytes = math.prod(shape)
        if n_bytes > self.max_bytes:
            return None
        self._make_room(n_bytes)
        entry = _Entry(pictures, np.zeros(shape, np.uint8), np.zeros(n_cases, bool))
        self._entries[key] = entry
        return entry

    def _make_room(self, n_bytes: int) -> None:
        while sum(e.pixels.nbytes for e in self._entries.values()) + n_bytes > self.max_bytes:
            self._entries.popitem(last=False)


PICTURES = PictureCache()


def _identity(pictures: Pictures) -> int | Pictures:
    """Return what equal sources share: two configurations of one release can crop differently."""
    try:
        hash(pictures)
    except TypeError:  # also a frozen dataclass that holds an array
        return id(pictures)
    return pictures


def picture_shape(pictures: Pictures) -> tuple[int, ...]:
    """Return (H, W, C) without decoding anything."""
    return tuple(pictures.read(np.zeros(0, np.int64)).shape[1:])


def read_pictures(
    dataset: Dataset, modality: Modality, rows: np.ndarray, cache: PictureCache = PICTURES
) -> np.ndarray:
    """Return the pictures of these cases, which must all have one: uint8 (n, H, W, C).

    Raises:
        BadData: the pictures are not uint8 or have other channels than the modality declares.
    """
    pictures: Pictures = dataset.content[modality.name]  # type: ignore[assignment]
    if isinstance(pictures, PictureArray):  # in memory already
        pixels = pictures.read(rows)
    else:
        key = (dataset.name, dataset.fingerprint, modality.name)
        pixels = cache.read(key, pictures, rows, dataset.n_cases)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != modality.channels:
        raise BadData(
            f"{dataset.name}: pictures of {modality.name!r} must be uint8 (n, H, W, "
            f"{modality.channels}), got {pixels.dtype} {pixels.shape}; mend the dataset plugin"
        )
    return pixels
