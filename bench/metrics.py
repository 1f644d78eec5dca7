"""Scores of predictions, computed from stored labels and probabilities.

All are fractions in [0, 1] or losses; tables print accuracy and AUC times 100. A score without a
meaning (no case, a class that is not there) is NaN, never 0 and never a warning, because a column
without cases prints a dash. Plain numpy: the numbers do not move with another library's version.
"""

# N cases, K classes

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_BINS = 15  # of the expected calibration error
# The smallest probability whose logarithm is taken: a wrong certainty costs 36 nats, not infinity.
P_MIN = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve, and for which classes it has no meaning in this part."""

    value: float  # NaN where undefined
    per_class: tuple[float, ...]  # (K,) one versus rest, NaN where undefined
    undefined: tuple[int, ...]  # classes without a case, or with nothing but their cases

    @property
    def flagged(self) -> bool:
        """Whether the mean leaves classes out, so that it is comparable to no complete one."""
        return bool(self.undefined)


def _checked(label: np.ndarray, proba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as integers and probabilities as float64, or refuse them."""
    label, proba = np.asarray(label), np.asarray(proba, dtype=np.float64)
    if proba.ndim != 2 or label.shape != proba.shape[:1]:
        raise ValueError(
            f"label must be (N,) and proba (N, K), got {label.shape} and {proba.shape}"
        )
    if len(label) and not (label.min() >= 0 and label.max() < proba.shape[1]):
        raise ValueError(
            f"label must lie in [0, {proba.shape[1]}), got {label.min()} to {label.max()}"
        )
    if len(label) and label.dtype.kind not in "iu":
        raise ValueError(f"label must be integers, got {label.dtype}")
    if not np.isfinite(proba).all():
        raise ValueError("proba must be finite, got NaN or infinity")
    return label.astype(np.int64, copy=False), proba


def accuracy(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the share of cases whose most probable class is right; ties go to the lowest class.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).

    Raises:
        ValueError: shapes that do not fit, a label out of range, a probability that is not finite.
            The other scores refuse the same.
    """
    label, proba = _checked(label, proba)
    return float((proba.argmax(1) == label).mean()) if len(label) else float("nan")


def rank_auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return P(s+ > s-) + P(s+ = s-) / 2 over all pairs of a positive and a negative case.

    Computed from midranks (Mann and Whitney 1947); NaN without a pair.

    Args:
        score: (N,) float.
        positive: (N,) bool.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    midrank = count.cumsum() - (count - 1) / 2  # of each distinct score, from 1
    n_below = midrank[place[positive]].sum() - n_positive * (n_positive + 1) / 2
    return float(n_below / (n_positive * n_negative))


def auc(label: np.ndarray, proba: np.ndarray) -> Auc:
    """Return the AUC: of class 1 for two classes, else the unweighted one-versus-rest mean.

    A class is undefined when the part has no case of it or no case of another; the mean is then
    over the defined classes and `undefined` names the rest.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    per_class = tuple(rank_auc(proba[:, k], label == k) for k in range(proba.shape[1]))
    undefined = tuple(k for k, value in enumerate(per_class) if np.isnan(value))
    defined = [value for value in per_class if not np.isnan(value)]
    if not defined:
        value = float("nan")
    elif len(per_class) == 2:
        value = per_class[1]
    else:
        value = float(np.mean(defined))
    return Auc(value, per_class, undefined)


def _confusion(label: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Count cases by (true class, most probable class): (K, K) int."""
    n_classes = proba.shape[1]
    pairs = label * n_classes + proba.argmax(1)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def balanced_accuracy(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the mean recall of the classes that the part has.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    confusion = _confusion(label, proba)
    n_true = confusion.sum(1)
    there = n_true > 0
    return float((confusion.diagonal()[there] / n_true[there]).mean()) if len(label) else np.nan


def macro_f1(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the unweighted mean F1 of all K classes; a class neither true nor predicted has 0.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    if not len(label):
        return float("nan")
    confusion = _confusion(label, proba)
    n_involved = confusion.sum(0) + confusion.sum(1)  # 2 TP + FP + FN
    return float((2 * confusion.diagonal() / n_involved.clip(min=1)).mean())


def ece(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the expected calibration error of the most probable class.

    The mean over cases of |accuracy - confidence| of their bin, 15 equal bins (lo, hi] (Guo et al.
    2017, eq. 3).

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    if not len(label):
        return float("nan")
    edges = np.arange(1, N_BINS) / N_BINS  # rounded as 0.2 or 0.6 themselves are
    where = np.digitize(proba.max(1), edges, right=True)
    surplus = (proba.argmax(1) == label) - proba.max(1)
    return float(np.abs(np.bincount(where, weights=surplus, minlength=N_BINS)).sum() / len(label))


def brier(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the mean squared distance to the true class, summed over classes: 0 to 2.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    if not len(label):
        return float("nan")
    truth = np.eye(proba.shape[1])[label]
    return float(((proba - truth) ** 2).sum(1).mean())


def nll(label: np.ndarray, proba: np.ndarray) -> float:
    """Return the mean negative log-likelihood in nats; probabilities are raised to 2^-52.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
    """
    label, proba = _checked(label, proba)
    if not len(label):
        return float("nan")
    p_true = proba[np.arange(len(label)), label]
    return float(-np.log(p_true.clip(min=P_MIN)).mean())


def sensitivity_at_specificity(
    label: np.ndarray, proba: np.ndarray, *, specificity: float
) -> float:
    """Return the best sensitivity among thresholds that reach a specificity; no interpolation.

    A case is positive when its probability of class 1 is at least the threshold. NaN for more than
    two classes and where one of the two has no case.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
        specificity: the least share of negative cases called negative, 0 to 1.
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity must lie in [0, 1], got {specificity}")
    label, proba = _checked(label, proba)
    score = proba[:, -1]
    positive, negative = np.sort(score[label == 1]), np.sort(score[label == 0])
    if proba.shape[1] != 2 or not len(positive) or not len(negative):
        return float("nan")
    thresholds = np.append(np.unique(score), np.inf)
    reached = np.searchsorted(negative, thresholds) / len(negative)  # share below each threshold
    found = 1 - np.searchsorted(positive, thresholds) / len(positive)
    return float(found[reached >= specificity].max())
