"""Tests on the cases of one split, which are slow: their outcomes are kept in the cache."""

# R repeats, N cases

from __future__ import annotations

import contextlib
import hashlib
import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.cache_folder import entry_path
from bench.errors import BadRequest
from bench.files import atomic_write
from bench.statistics import WEIGHTED, compare_methods, resample_cases, two_level_bootstrap

WEIGHTED_NAMES = {"BACC": "balanced ACC", "F1": "macro F1"}  # where they differ from ours
N_RESAMPLES = 10_000
Asked = tuple[str, str, bool, float]  # test, metric, whether seeds are paired, alpha
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # labels and the probabilities of both


def computed(asked: Asked, arrays: Arrays) -> tuple[float, float, float]:
    """Return p and the ends of the interval."""
    test, name, paired, alpha = asked
    label, first, second = arrays
    metric = WEIGHTED[WEIGHTED_NAMES.get(name, name)]
    if test == "obuchowski-rockette":
        found = compare_methods(
            label, first, second, metric=metric, paired_seeds=paired, alpha=alpha
        )
        return found.p, *found.interval
    pool = resample_cases(
        label, np.concatenate([first, second], axis=1), metric=metric, n_resamples=N_RESAMPLES
    ).mean_over_conditions()
    n = first.shape[1]
    drawn = two_level_bootstrap(pool[:n], pool[n:], paired_seeds=paired, alpha=alpha)
    return drawn.p, *drawn.interval


def kept(asked: Asked, arrays: Arrays) -> tuple[float, float, float]:
    """Return what `computed` does, from the cache if the same was ever asked of the same arrays.

    The code of the tests is part of what "the same" means. A cache that cannot be written costs
    time alone.
    """
    content = hashlib.sha256(json.dumps([asked, _code()]).encode())
    for array in arrays:
        content.update(f"{array.dtype} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    path = entry_path("statistics", f"{asked[0]} {asked[1]}", content.hexdigest())
    path = path.with_name(f"{path.name}.json")
    if path.is_file():
        p, low, high = json.loads(path.read_text())
        return p, low, high
    found = computed(asked, arrays)
    with contextlib.suppress(BadRequest, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps(found).encode())
    return found


@lru_cache(maxsize=1)
def _code() -> str:
    """Hash the files that the numbers depend on."""
    files = [Path(__file__), *sorted((Path(__file__).parents[1] / "statistics").glob("*.py"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
