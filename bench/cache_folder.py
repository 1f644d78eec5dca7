"""The folder of what is made once and kept: decoded pictures, tokens of frozen encoders, sentences.

It is BENCH_CACHE_DIR, or else `~/.cache/missing-modality-bench`. Everything in it can be made
again: deleting an entry costs time, never a number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadRequest, unknown

VARIABLE = "BENCH_CACHE_DIR"
DEFAULT = "~/.cache/missing-modality-bench"
ROWS_SUFFIX = ".rows"
PART_SUFFIX = ".safetensors"
# What each kind of entry looks like below its folder; nothing else there is ever touched.
FILES = {
    "pictures": f"*{ROWS_SUFFIX}",  # decoded pictures and volumes, a file per modality
    "tokens": f"*/*{PART_SUFFIX}",  # of frozen image encoders, a folder per encoder
    "text": f"*/*{PART_SUFFIX}",  # of sentences, a folder per language model
    "answers": f"*/*{PART_SUFFIX}",  # about reports, a folder per instruction model
    "statistics": "*.json",  # of tests that take long, a file per comparison
}


def cache_folder() -> Path:
    """Return the folder, which need not exist."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).expanduser()


def entry_path(kind: str, words: str, digest: str) -> Path:
    """Name an entry: what a reader knows it by, and what tells it from all others.

    Args:
        kind: one of `FILES`.
        words: what it holds, for the list; anything but letters, digits and dots becomes a dash.
        digest: hash of all that its content depends on.
    """
    return cache_folder() / kind / f"{re.sub(r'[^A-Za-z0-9.]+', '-', words)}-{digest[:16]}"


@dataclass(frozen=True)
class Entry:
    """One entry of the cache: a file, or a folder of files."""

    kind: str
    name: str
    n_bytes: int


def entries() -> list[Entry]:
    """List what is kept, largest first."""
    sizes: dict[tuple[str, str], int] = {}
    for kind in FILES:
        for path in _files(kind):
            name = path.relative_to(cache_folder() / kind).parts[0].removesuffix(ROWS_SUFFIX)
            sizes[kind, name] = sizes.get((kind, name), 0) + path.stat().st_size
    listed = [Entry(*key, n_bytes) for key, n_bytes in sizes.items()]
    return sorted(listed, key=lambda each: (-each.n_bytes, each.kind, each.name))


def clear(kind: str = "") -> int:
    """Delete the entries of one kind, or of all, and return how many bytes that frees.

    Files that the cache did not write stay. A run that reads a deleted file goes on with it.

    Raises:
        UnknownName: there is no such kind.
        BadRequest: an entry cannot be deleted.
    """
    if kind and kind not in FILES:
        raise unknown("kind of cache entry", kind, FILES)
    n_bytes = 0
    for each in [kind] if kind else FILES:
        for path in list(_files(each)):
            n_bytes += path.stat().st_size
            try:
                path.unlink()
                _remove_if_empty(path.parent)
            except OSError as error:
                raise BadRequest(f"{path} cannot be deleted ({error.strerror})") from None
    return n_bytes


def _files(kind: str) -> Iterator[Path]:
    return filter(Path.is_file, (cache_folder() / kind).glob(FILES[kind]))


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def in_words(n_bytes: int) -> str:
    """Write a number of bytes with at most one decimal: `1.5 GiB`."""
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
