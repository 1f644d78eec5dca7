"""The metrics of tables: how predictions are scored, and how that is printed."""

# N cases

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bench.errors import unknown
from bench.metrics import N_BINS, accuracy, auc, balanced_accuracy, brier, ece, macro_f1, nll


@dataclass(frozen=True)
class Metric:
    """A score of predictions, and how tables print it."""

    name: str
    long_name: str
    better: Literal["higher", "lower"]
    score: Callable[[np.ndarray, np.ndarray], tuple[float, bool]]  # value, does it lack a class
    unit: str = "%"
    factor: float = 100.0  # from the score to the unit
    digits: int = 2
    lacking: str = ""  # what a score means where a class has no case


def _plain(score: Callable[[np.ndarray, np.ndarray], float]) -> Callable[..., tuple[float, bool]]:
    """Make a score that no absent class can change one that says so."""
    return lambda label, proba: (score(label, proba), False)


def _by_class(
    score: Callable[[np.ndarray, np.ndarray], float],
) -> Callable[..., tuple[float, bool]]:
    """Make a mean over classes one that says whether a class is absent."""

    def flagged(label: np.ndarray, proba: np.ndarray) -> tuple[float, bool]:
        return score(label, proba), len(np.unique(label)) < proba.shape[1]

    return flagged


def _auc(label: np.ndarray, proba: np.ndarray) -> tuple[float, bool]:
    found = auc(label, proba)
    return found.value, found.flagged


_MEAN = "the mean over the classes there"
_LOSS: Mapping[str, Any] = {"unit": "", "factor": 1.0, "digits": 3}
_BACC = "balanced accuracy, the mean recall of the classes"
_ECE = f"expected calibration error in {N_BINS} equal bins, lower is better"
_BRIER = "Brier score, the squared error summed over the classes, 0 to 2, lower is better"
_NLL = "negative log-likelihood, in nats, lower is better"

METRICS = {
    metric.name: metric
    for metric in (
        Metric("ACC", "accuracy", "higher", _plain(accuracy)),
        Metric("AUC", "area under the ROC curve", "higher", _auc, lacking=_MEAN),
        Metric("BACC", _BACC, "higher", _by_class(balanced_accuracy), lacking=_MEAN),
        Metric(
            "F1",
            "macro F1",
            "higher",
            _by_class(macro_f1),
            lacking="the mean with 0 for that class",
        ),
        Metric("ECE", _ECE, "lower", _plain(ece)),
        Metric("Brier", _BRIER, "lower", _plain(brier), **_LOSS),
        Metric("NLL", _NLL, "lower", _plain(nll), **_LOSS),
    )
}


def metric_named(name: str) -> Metric:
    """Return a metric of tables.

    Raises:
        UnknownName: there is none of this name.
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]
