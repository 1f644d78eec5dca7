"""Handwritten digits cut into four quadrants: pictures small enough for a first try on one core.

The 8 x 8 pictures that come with scikit-learn are cut into quadrants of 4 x 4 pixels, which are
four image modalities with one shared encoder. Grey values 0 to 16 become 0 to 255. The set is
complete. One case is one group: the writers are not given, so writers do part.

Source: Alpaydin and Kaynak, "Cascading classifiers", 1998 (the test part of the UCI set).
"""

# N cases

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data import Dataset, Modality, PictureArray
from bench.dataset import DatasetPlugin, fingerprint_arrays
from bench.spec import Frozen

MAX_GREY = 16
HALVES = {"top": slice(0, 4), "bottom": slice(4, 8), "left": slice(0, 4), "right": slice(4, 8)}
QUADRANTS = ("top-left", "top-right", "bottom-left", "bottom-right")


class Digits(DatasetPlugin):
    """Four complete picture modalities that share an encoder."""

    name = "digits"
    display_name = "Digits"
    description = "handwritten digits, 1797 cases, four quadrants as pictures, complete"
    citation = "E. Alpaydin, C. Kaynak: Cascading classifiers. Kybernetika 34(4), 1998"
    licence = "CC BY 4.0 (UCI Machine Learning Repository)"
    needs_root = False
    recipe_defaults = {"epochs": 10}  # a small network from scratch: minutes on one core

    def load(self, config: Frozen, root: Path | None) -> Dataset:
        """Read the set that scikit-learn carries; the root is not used."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        n_cases = len(bunch.target)
        cases = np.array([f"{row:04d}" for row in range(n_cases)])
        pixels = np.rint(bunch.images * (255 / MAX_GREY)).astype(np.uint8)[
            ..., None
        ]  # (N, 8, 8, 1)
        return Dataset(
            name=self.name,
            modalities=tuple(Modality(name, "image", encoder="quadrant") for name in QUADRANTS),
            classes=tuple(map(str, range(10))),
            cases=cases,
            label=bunch.target.astype(np.int64),
            group=cases,
            content={name: _quadrant(pixels, name) for name in QUADRANTS},
            available=np.ones((n_cases, len(QUADRANTS)), dtype=bool),
            fingerprint=fingerprint_arrays(bunch.data, bunch.target),
        )


def _quadrant(pixels: np.ndarray, name: str) -> PictureArray:
    """Cut one quadrant: (N, 8, 8, 1) to (N, 4, 4, 1)."""
    rows, columns = (HALVES[half] for half in name.split("-"))
    return PictureArray(np.ascontiguousarray(pixels[:, rows, columns]))


PLUGIN = Digits
