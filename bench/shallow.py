"""Logistic regression with its mean fill, as plain arrays: what the shallow floor is made of."""

# N cases, W features, K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

# scikit-learn's 1e-4 of a mean loss stops far from the optimum where the classes part well: on the
# multiple features after 17 steps, with intercepts a tenth of what they become
TOLERANCE = 1e-6


@dataclass(frozen=True)
class LinearState:
    """A fitted linear model: softmax(standardised x @ weight + bias) over the classes."""

    columns: np.ndarray  # (W,) bool, those that some training case had
    mean: np.ndarray  # (w,) of the observed cells, the fill of what is absent
    scale: np.ndarray  # (w,)
    weight: np.ndarray  # (w, K)
    bias: np.ndarray  # (K,) -inf: a class that no training case had

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Return (N, K) probabilities of x (N, W), NaN where absent."""
        logits = _standardised(x[:, self.columns], self.mean, self.scale) @ self.weight + self.bias
        logits -= logits.max(1, keepdims=True)
        proba = np.exp(logits)
        return proba / proba.sum(1, keepdims=True)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, np.ndarray], prefix: str = "") -> LinearState:
        """Rebuild from arrays."""
        return cls(**{name: state[prefix + name] for name in cls.__dataclass_fields__})


def fit_logistic(
    x: np.ndarray, label: np.ndarray, weight: np.ndarray, *, n_classes: int, C: float
) -> LinearState:
    """Fit scikit-learn's logistic regression on standardised, mean-filled features.

    A column absent from all cases is dropped. With a single class, that class is certain.

    Args:
        x: (N, W), NaN where absent.
        label: (N,) int in [0, K).
        weight: (N,) of each case.
        n_classes: K.
        C: inverse strength of the L2 penalty.
    """
    from sklearn.linear_model import LogisticRegression

    columns = ~np.isnan(x).all(0)
    x = x[:, columns]
    mean = np.nanmean(x, 0) if x.size else np.zeros(x.shape[1])
    scale = np.nanstd(x, 0) if x.size else np.ones(x.shape[1])
    scale[scale < 1e-12] = 1.0
    coefficients = np.zeros((x.shape[1], n_classes))
    bias = np.full(n_classes, -np.inf)
    present = np.unique(label)
    if len(present) == 1 or not x.shape[1]:
        share = np.bincount(label, weight, n_classes) / weight.sum()
        bias[present] = np.log(share[present])
        return LinearState(columns, mean, scale, coefficients, bias)
    model = LogisticRegression(C=C, max_iter=2000, tol=TOLERANCE)
    model.fit(_standardised(x, mean, scale), label, sample_weight=weight)
    if len(present) == 2:  # one column for two classes: the log-odds of the second
        coefficients[:, present] = np.stack([-model.coef_[0], model.coef_[0]], 1) / 2
        bias[present] = np.array([-model.intercept_[0], model.intercept_[0]]) / 2
    else:
        coefficients[:, present] = model.coef_.T
        bias[present] = model.intercept_
    return LinearState(columns, mean, scale, coefficients, bias)


def _standardised(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (np.where(np.isnan(x), mean, x) - mean) / scale
