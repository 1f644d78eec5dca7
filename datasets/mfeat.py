"""UCI multiple features: handwritten digits, described six times over.

Modalities, all vectors: Fourier coefficients of the shape (`fou`, 76), profile correlations (`fac`,
216), Karhunen-Loeve coefficients (`kar`, 64), averages of 2 x 3 pixels (`pix`, 240), Zernike
moments (`zer`, 47) and morphological features (`mor`, 6). 2000 cases, 200 of each digit, complete.
One case is one group: the writers are not given.

Near its ceiling: logistic regression reaches an accuracy of 0.985 on all six and 0.95 on `kar`
alone. It is a test that a method works, not one that tells methods apart.

Source: van Breukelen, Duin, Tax and den Hartog, Kybernetika 34(4), 1998. In the release the files
have no labels: the first 200 lines are zeros, the next 200 ones, and so on.
"""

# N cases

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data import Dataset, Modality
from bench.dataset import DatasetPlugin, find_layout, fingerprint_files, read_arrays, read_matrix
from bench.errors import BadData
from bench.spec import Frozen

WIDTHS = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}
N_DIGITS = 10
N_PER_DIGIT = 200
N_CASES = N_DIGITS * N_PER_DIGIT
DIGITS = np.repeat(np.arange(N_DIGITS), N_PER_DIGIT)  # (N,), the order of the release
STACKED = "data.npz"  # one array per view, and y
LAYOUTS = {"release": tuple(f"mfeat-{view}" for view in WIDTHS), "stacked": (STACKED,)}


class Mfeat(DatasetPlugin):
    """Six complete vectors."""

    name = "mfeat"
    display_name = "Multiple features"
    description = "handwritten digits, 2000 cases, six feature vectors, complete; near its ceiling"
    citation = (
        "M. van Breukelen, R. P. W. Duin, D. M. J. Tax, J. E. den Hartog: Handwritten digit "
        "recognition by combined classifiers. Kybernetika 34(4), 1998"
    )
    licence = "CC BY 4.0 (UCI Machine Learning Repository)"
    recipe_defaults = {"epochs": 15}  # near the ceiling after a few

    def load(self, config: Frozen, root: Path | None) -> Dataset:
        """Read the six files of the release, or one file with six arrays."""
        folder, layout = find_layout(self.name, root, LAYOUTS)
        label, views = _stacked(folder) if layout == "stacked" else (DIGITS, _release(folder))
        cases = np.array([f"{row:04d}" for row in range(N_CASES)])
        files = tuple(folder / name for name in LAYOUTS[layout])
        return Dataset(
            name=self.name,
            modalities=tuple(Modality(view, "vector", width=w) for view, w in WIDTHS.items()),
            classes=tuple(map(str, range(N_DIGITS))),
            cases=cases,
            label=label.astype(np.int64),
            group=cases,
            content={view: values.astype(np.float32) for view, values in views.items()},
            available=np.ones((N_CASES, len(WIDTHS)), dtype=bool),
            fingerprint=fingerprint_files(files),
            files=files,
        )


def _release(folder: Path) -> dict[str, np.ndarray]:
    """Read the files of the release: by view, (N, width) float64."""
    views = {view: read_matrix(folder / f"mfeat-{view}", w) for view, w in WIDTHS.items()}
    for view, values in views.items():
        if len(values) != N_CASES:  # the labels follow from the order: no line may be lacking
            raise BadData(
                f"{folder / f'mfeat-{view}'}: {len(values)} lines with numbers, not {N_CASES}; "
                "get the file again"
            )
    return views


def _stacked(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read the one file: (N,) digits and, by view, (N, width)."""
    shapes = {view: (N_CASES, width) for view, width in WIDTHS.items()}
    arrays = read_arrays(folder / STACKED, {"y": (N_CASES,), **shapes})
    label = arrays.pop("y")
    if not np.isin(label, range(N_DIGITS)).all():
        raise BadData(f"{folder / STACKED}: y holds other numbers than 0 to 9; get the file again")
    return label, arrays


PLUGIN = Mfeat
