"""Files of tensors: written whole or not at all, and read only if no bit of them has changed.

They are zip archives as `torch.save` makes them, so that torch alone can read them too. Every entry
has a checksum, which `torch.load` does not look at: a flipped bit would become another weight.
Nothing is unpickled but tensors and plain containers.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from bench.errors import Damaged
from bench.files import atomic_write


def save_tensors(path: Path, value: Any, *, lasting: bool = False) -> None:
    """Write tensors in lists, tuples and dictionaries of plain values.

    Args:
        path: the file.
        value: the tensors.
        lasting: whether the file outlives a power cut from here on.

    Raises:
        BadRequest: the file cannot be written; names it and the cause.
    """
    buffer = io.BytesIO()  # torch words a full disk as a fault of its own
    torch.save(value, buffer)
    atomic_write(path, buffer.getbuffer(), lasting=lasting)


def load_tensors(path: Path, device: torch.device | str = "cpu") -> Any:
    """Read what `save_tensors` wrote.

    Raises:
        Damaged: the file is missing, cut off, changed, or holds more than tensors; names it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        return torch.load(path, device, weights_only=True)
    except Exception as error:  # whatever a file that is no such archive provokes
        reason = " ".join(str(error).split())[:160]
        raise Damaged(
            f"{str(path)!r} is damaged: {reason}; delete its folder to have it written once more"
        ) from error
