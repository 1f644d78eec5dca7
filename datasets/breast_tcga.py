"""Breast cancer of The Cancer Genome Atlas: subtypes from three kinds of molecules.

Modalities, all vectors: `mrna` (200 genes), `mirna` (184 micro-RNAs) and `protein` (142 proteins
and their modified forms), as normalised and filtered for DIABLO. The label is the subtype: Basal,
Her2 or LumA. The official parts are 150 cases to train and 70 to test; the test part has no
proteins at all, so that no condition with them has a test case there, and five folds over all 220
cases serve to test them. One case is one group, a patient.

What gives the label away: the subtypes (PAM50) were called from gene expression, which `mrna`
repeats.

The file is data.npz with the arrays y (0 to 2), classes, split (train or test), mrna, mirna and
protein (NaN where absent); the release itself is an R object.

Source: Singh et al., Bioinformatics 35(17), 2019; TCGA Network, Nature 490, 2012.
"""

# W features

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.data import Dataset, Modality
from bench.dataset import DatasetPlugin, find_root, fingerprint_files, read_arrays
from bench.errors import BadData
from bench.spec import Frozen

FILE = "data.npz"
WIDTHS = {"mrna": 200, "mirna": 184, "protein": 142}
CLASSES = ("Basal", "Her2", "LumA")
PARTS = ("train", "test")
SHAPES = {"y": (-1,), "classes": (len(CLASSES),), "split": (-1,)}


class BreastTcga(DatasetPlugin):
    """Three vectors, one of them absent in the whole test part."""

    name = "breast-tcga"
    display_name = "TCGA breast"
    description = "breast cancer, 220 cases, 3 subtypes, 3 vectors; protein absent in the test part"
    citation = (
        "A. Singh, C. P. Shannon, B. Gautier, F. Rohart, M. Vacher, S. J. Tebbutt, K.-A. Lê Cao: "
        "DIABLO: an integrative approach for identifying key molecular drivers from multi-omics "
        "assays. Bioinformatics 35(17), 2019"
    )
    licence = "TCGA open access, cite TCGA; as filtered for mixOmics, GPL (>= 2)"
    default_folds = 1
    default_seeds = (0, 1, 2)
    recipe_defaults = {"epochs": 40, "batch_size": 32}  # 120 cases train: four steps an epoch

    def load(self, config: Frozen, root: Path | None) -> Dataset:
        """Read the arrays."""
        path = find_root(self.name, root, (FILE,)) / FILE
        arrays = read_arrays(path, {**SHAPES, **{name: (-1, w) for name, w in WIDTHS.items()}})
        _check(arrays, path)
        cases = np.array([f"{row:03d}" for row in range(len(arrays["y"]))])
        content = {name: arrays[name].astype(np.float32) for name in WIDTHS}
        return Dataset(
            name=self.name,
            modalities=tuple(Modality(name, "vector", width=w) for name, w in WIDTHS.items()),
            classes=CLASSES,
            cases=cases,
            label=arrays["y"].astype(np.int64),
            group=cases,
            content=content,
            available=np.stack([~np.isnan(x).any(axis=1) for x in content.values()], axis=1),
            fingerprint=fingerprint_files([path]),
            parts=arrays["split"].astype(str),
            files=(path,),
        )


def _check(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuse arrays that do not fit together or hold what they should not.

    Raises:
        BadData: the file is named, and what of it.
    """
    lengths = {len(arrays[name]) for name in ("y", "split", *WIDTHS)}
    if len(lengths) > 1:
        raise BadData(f"{path}: the arrays have {sorted(lengths)} cases; get the file again")
    if tuple(arrays["classes"].tolist()) != CLASSES or not np.isin(arrays["y"], range(3)).all():
        raise BadData(f"{path}: y must be 0 to 2 for {', '.join(CLASSES)}; get the file again")
    if not np.isin(arrays["split"], PARTS).all():
        raise BadData(f"{path}: split must be train or test; get the file again")
    for name in WIDTHS:
        absent = np.isnan(arrays[name])
        partly = absent.any(axis=1) & ~absent.all(axis=1)
        if partly.any() or np.isinf(arrays[name]).any():
            raise BadData(
                f"{path}: {name} must be finite, or NaN as a whole row where it is absent; "
                "get the file again"
            )


PLUGIN = BreastTcga
