"""Read numbers from files that are no tables: matrices in text, arrays in NPZ and NPY."""

# N rows of a table, or cases

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.dataset.tables import check_unpacked, read_text
from bench.errors import BadData

MAX_ARRAY_BYTES = 64 * 2**30  # of a file of arrays, unpacked


def read_matrix(path: Path, n_columns: int) -> np.ndarray:
    """Read a file of numbers that are parted by blanks, one record per line, without a header.

    Args:
        path: a UTF-8 file; empty lines are skipped.
        n_columns: numbers in a record.

    Returns:
        (N, n_columns) float64.

    Raises:
        BadData: not readable, or a line with other than finite numbers or with another count.
    """
    rows = []
    for line, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        if words and len(words) != n_columns:
            raise BadData(f"{path}, line {line}: {len(words)} numbers, not {n_columns}; mend it")
        if words:
            rows.append(_finite(words, f"{path}, line {line}"))
    return np.array(rows).reshape(-1, n_columns)


def _finite(words: Sequence[str], where: str) -> np.ndarray:
    """Return the numbers of one record."""
    try:
        values = np.array(words, np.float64)
    except ValueError as error:
        raise BadData(f"{where}: {error}; mend the line") from error
    if not np.isfinite(values).all():
        word = words[int(np.isfinite(values).argmin())]
        raise BadData(f"{where}: {word!r} is no finite number; mend the line")
    return values


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Read arrays of an .npz file; nothing is unpickled.

    Args:
        path: the file; arrays that are not asked for are left alone.
        shapes: by name of an array, the shape that it must have; -1 stands for any length.

    Raises:
        BadData: not readable, larger than `MAX_ARRAY_BYTES`, or an array is missing, of Python
            objects or of another shape.
    """
    try:
        check_unpacked(path, MAX_ARRAY_BYTES, "archive")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in shapes}
    except KeyError as error:
        raise BadData(f"{path}: {error.args[0]}; get the file again") from error
    except BadData:
        raise
    except Exception as error:  # damaged archives raise many kinds, and claim any size
        reason = getattr(error, "strerror", None) or "damaged, of another kind, or with objects"
        raise BadData(f"{path}: no readable .npz ({reason}); get the file again") from error
    for name, shape in shapes.items():
        found = arrays[name].shape
        if len(found) != len(shape) or any(
            w not in (-1, n) for w, n in zip(shape, found, strict=True)
        ):
            raise BadData(f"{path}: {name} has shape {found}, not {shape}; get the file again")
    return arrays
