"""One logistic regression on all features, with the training mean where something is absent.

What most hospitals would do first, and part of the floor that every study carries: the distance
to `logistic-specialist` shows how much a subset suffers from a model that never saw it.

Source: none; scikit-learn's logistic regression, C = 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from bench.method import Config, Features, ShallowMethod
from bench.shallow import LinearState, fit_logistic


class LogisticConfig(Config):
    """Settings of scikit-learn's logistic regression."""

    C: float = Field(1.0, gt=0, description="inverse strength of the L2 penalty")


class LogisticMeanFill(ShallowMethod):
    """One logistic regression for all patterns."""

    name = "logistic-meanfill"
    display_name = "Logistic mean fill"
    config_class = LogisticConfig

    def fit(self, features: Features, label: np.ndarray, weight: np.ndarray) -> None:
        """Fit on all training cases."""
        x = np.concatenate(features.visible(), axis=1)
        self.model = fit_logistic(x, label, weight, n_classes=self.n_classes, C=self.config.C)

    def predict_proba(self, features: Features) -> np.ndarray:
        """Predict with the training mean where a feature is absent."""
        return self.model.predict_proba(np.concatenate(features.visible(), axis=1))

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays of the model."""
        return self.model.arrays()

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the model."""
        self.model = LinearState.of(state)


PLUGIN = LogisticMeanFill
