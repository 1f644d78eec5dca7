"""Forty cases of two vectors with folds and a fixed split; the labels of a test part can be mixed.

Neither the folds nor the parts are drawn from the labels, so that mixing those of one test part
changes nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.data import Dataset, Modality
from bench.dataset import DatasetPlugin
from bench.spec import Frozen

N_CASES = 40


class ShuffledConfig(Frozen):
    """Which test part has its labels mixed."""

    fold: int | None = None  # of the two folds
    fixed: bool = False  # of the fixed split


class Shuffled(DatasetPlugin):
    """Two modalities that tell the class."""

    name = "shuffled"
    display_name = "Shuffled"
    description = "forty cases"
    citation = "none"
    licence = "none"
    config_class = ShuffledConfig
    default_folds = 2

    def load(self, config: Frozen, root: Path | None) -> Dataset:
        """Make the cases."""
        assert isinstance(config, ShuffledConfig)
        rng = np.random.default_rng(0)
        label = np.arange(N_CASES) % 2
        folds = np.arange(N_CASES) // 2 % 2
        parts = np.array(["train", "train", "valid", "test"])[np.arange(N_CASES) // 2 % 4]
        content = {
            name: (label[:, None] + rng.normal(size=(N_CASES, 3))).astype(np.float32)
            for name in ("left", "right")
        }
        mixed = folds == config.fold if config.fold is not None else np.zeros(N_CASES, bool)
        mixed |= config.fixed & (parts == "test")
        label = label.copy()
        label[mixed] = label[mixed][::-1].copy()
        names = np.array([f"case{i}" for i in range(N_CASES)])
        return Dataset(
            name=self.name,
            modalities=tuple(Modality(name, "vector", width=3) for name in content),
            classes=("benign", "malignant"),
            cases=names,
            label=label,
            group=names,
            content=content,
            available=np.ones((N_CASES, 2), dtype=bool),
            fingerprint=f"shuffled-{config.fold}-{config.fixed}",
            folds={2: folds},
            parts=parts,
        )


PLUGIN = Shuffled
