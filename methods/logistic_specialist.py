"""Logistic regression per availability subset: what shallow models reach when told the pattern.

For every subset that is asked for, one model on the training cases that have it, with absent
attributes at the training mean. It is part of the floor that every study carries: a table in
which a network does not beat it says that the network is not needed.

Source: none; scikit-learn's logistic regression, C = 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from bench.availability import Subset, subset_name, subsets
from bench.method import Config, Features, ShallowMethod
from bench.shallow import LinearState, fit_logistic


class LogisticConfig(Config):
    """Settings of scikit-learn's logistic regression."""

    C: float = Field(1.0, gt=0, description="inverse strength of the L2 penalty")


class LogisticSpecialist(ShallowMethod):
    """One logistic regression per subset."""

    name = "logistic-specialist"
    display_name = "Logistic specialist"
    config_class = LogisticConfig

    def fit(self, features: Features, label: np.ndarray, weight: np.ndarray) -> None:
        """Fit a model for every subset that at least one training case has."""
        self.models: dict[str, LinearState] = {}
        for subset in subsets(len(features.values)):
            rows = np.flatnonzero(features.available[:, subset].all(1))
            if len(rows):
                self.models[subset_name(subset)] = fit_logistic(
                    _columns(features.rows(rows), subset),
                    label[rows],
                    weight[rows],
                    n_classes=self.n_classes,
                    C=self.config.C,
                )

    def predict_proba(self, features: Features) -> np.ndarray:
        """Predict each case with the model of its subset.

        A subset that no training case had is answered by the largest part of it that some had.
        """
        proba = np.zeros((len(features.available), self.n_classes))
        for pattern in np.unique(features.available, axis=0):
            rows = np.flatnonzero((features.available == pattern).all(1))
            subset = self._nearest(tuple(np.flatnonzero(pattern)))
            model = self.models[subset_name(subset)]
            proba[rows] = model.predict_proba(_columns(features.rows(rows), subset))
        return proba

    def _nearest(self, subset: Subset) -> Subset:
        within = [each for each in subsets(max(subset) + 1) if set(each) <= set(subset)]
        return next(each for each in reversed(within) if subset_name(each) in self.models)

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays of every model."""
        return {
            f"{name}.{key}": array
            for name, model in self.models.items()
            for key, array in model.arrays().items()
        }

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore the models."""
        names = {key.partition(".")[0] for key in state}
        self.models = {name: LinearState.of(state, f"{name}.") for name in sorted(names)}


def _columns(features: Features, subset: Subset) -> np.ndarray:
    values = features.visible()
    return np.concatenate([values[m] for m in subset], axis=1)


PLUGIN = LogisticSpecialist
