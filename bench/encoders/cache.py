"""Tensors that are made once: tokens of frozen encoders by picture, features by sentence.

A key is a hash of all that a tensor depends on. Entries lie in safetensors files of a few hundred,
each named by the hash of its own bytes: a file is written whole or not at all, never changed, and
one that was damaged is found out, deleted, and its entries made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bench.cache_folder import PART_SUFFIX, VARIABLE
from bench.errors import BadConfig
from bench.files import atomic_path

PART = 256  # tensors made and written at a time: what an interruption can lose
N_LENGTH_BYTES = 8  # of the header of a safetensors file

Make = Callable[[list[int]], Sequence[Tensor]]


class TensorCache:
    """Tensors by key in the files of one folder. `n_made` counts those that were not there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.n_made = 0
        self._keys: dict[Path, frozenset[str]] = {}  # of each file seen so far

    def get(self, keys: Sequence[str], make: Make) -> list[Tensor]:
        """Return the tensor of each key; one that several keys ask for is made once.

        Args:
            keys: hashes, in hexadecimal digits.
            make: takes places in `keys` and returns their tensors.

        Raises:
            BadConfig: the folder cannot be written.
        """
        place_of = {key: place for place, key in reversed(list(enumerate(keys)))}
        found = self._load(set(place_of))
        lacking = [place for key, place in place_of.items() if key not in found]
        for start in range(0, len(lacking), PART):
            places = sorted(lacking[start : start + PART])
            made = [tensor.detach().cpu().contiguous().clone() for tensor in make(places)]
            entries = dict(zip((keys[place] for place in places), made, strict=True))
            self._write(entries)
            self.n_made += len(entries)
            found |= entries
        return [found[key] for key in keys]

    def _load(self, wanted: set[str]) -> dict[str, Tensor]:
        self._look_for_files()
        found: dict[str, Tensor] = {}
        for path, keys in list(self._keys.items()):
            here = wanted & keys - found.keys()
            if here:
                entries = self._read(path)
                found |= {key: entries[key] for key in here & entries.keys()}
        return found

    def _look_for_files(self) -> None:
        """Note what lies in files that were not seen before, of this process or another."""
        for path in sorted(self.folder.glob(f"[!.]*{PART_SUFFIX}")):
            if path not in self._keys:
                self._keys[path] = _keys_of(path)

    def _read(self, path: Path) -> dict[str, Tensor]:
        """Return the entries of a file; delete one that is not what was written."""
        try:
            content = path.read_bytes()
            if _hash(content) == path.stem:
                return load(content)
        except (OSError, SafetensorError):  # gone, or no such file at all
            pass
        path.unlink(missing_ok=True)
        del self._keys[path]
        return {}

    def _write(self, entries: Mapping[str, Tensor]) -> None:
        content = save(dict(entries))
        path = self.folder / f"{_hash(content)}{PART_SUFFIX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise BadConfig(
                f"the cache {self.folder} cannot be written ({error.strerror}); make room and "
                f"rights there, or name another folder with --cache-dir or {VARIABLE}"
            ) from error
        self._keys[path] = frozenset(entries)


def content_key(parts: Iterable[bytes]) -> str:
    """Return the hash of some bytes as a key."""
    blake = hashlib.blake2b(digest_size=16)
    for part in parts:
        blake.update(part)
    return blake.hexdigest()


def _hash(content: bytes) -> str:
    return content_key([content])


def _keys_of(path: Path) -> frozenset[str]:
    """Read the keys from the header of a file; of a damaged one all that could be wanted is gone.

    A key that is read wrongly is found out when the file is loaded.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(N_LENGTH_BYTES), "little")
            header = json.loads(file.read(min(length, path.stat().st_size)))
            return frozenset(header) - {"__metadata__"}
    except (OSError, ValueError, TypeError, RecursionError):
        return frozenset()
