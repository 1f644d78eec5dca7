"""A method that leaves a file behind for each of its trainings, in the folder BENCH_TOY_COUNT."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.method import Features, ShallowMethod


class Counted(ShallowMethod):
    """Predict the shares of the classes."""

    name = "counted"
    display_name = "Counted"

    def fit(self, features: Features, label: np.ndarray, weight: np.ndarray) -> None:
        """Count the classes, and this training."""
        (Path(os.environ["BENCH_TOY_COUNT"]) / secrets.token_hex(8)).touch()
        self.share = np.bincount(label, minlength=self.n_classes) / len(label)

    def predict_proba(self, features: Features) -> np.ndarray:
        """Return the same for all cases."""
        return np.tile(self.share, (len(features.available), 1))

    def state(self) -> dict[str, np.ndarray]:
        """Return the shares."""
        return {"share": self.share}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the shares."""
        self.share = state["share"]


PLUGIN = Counted
