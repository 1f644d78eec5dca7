"""Logistic regression on the availability pattern alone: does missingness predict the label?

One flag per attribute of a table and one per other modality; no content is read. Within a column
whose cases share one pattern its score is constant, so its AUC is exactly one half; where it is
above, the gaps of the data set tell the label, and every method can use that.

Source: none; scikit-learn's logistic regression, C = 1.
"""

# N cases, A attributes

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.method import Features, ShallowMethod
from bench.shallow import LinearState, fit_logistic


class PatternOnly(ShallowMethod):
    """Logistic regression on flags."""

    name = "pattern-only"
    display_name = "Pattern only"

    def fit(self, features: Features, label: np.ndarray, weight: np.ndarray) -> None:
        """Fit on the flags of the training cases."""
        self.model = fit_logistic(flags(features), label, weight, n_classes=self.n_classes, C=1.0)

    def predict_proba(self, features: Features) -> np.ndarray:
        """Predict from the flags."""
        return self.model.predict_proba(flags(features))

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays of the model."""
        return self.model.arrays()

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the model."""
        self.model = LinearState.of(state)


def flags(features: Features) -> np.ndarray:
    """Return (N, F) zeros and ones: each attribute of a table, each other modality."""
    available = features.available[..., None]
    columns = [
        features.attributes.get(m, available[:, m]) & available[:, m]
        for m in range(features.available.shape[1])
    ]
    return np.concatenate(columns, axis=1).astype(float)


PLUGIN = PatternOnly
