"""Scores under case weights: what the bootstrap and the jackknife are made of.

Each function takes many weightings at once. A bootstrap resample is a column of counts, a case left
out is a column of ones with one zero. With unit weights the scores are those of `bench.metrics`.
A score is NaN where it has no meaning, and also where a class of the AUC has lost its last case.
"""

# N cases, K classes, B weightings, S models

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bench.metrics import N_BINS, P_MIN

# label (N,), probabilities (N, K), weights (N, B) -> scores (B,)
WeightedMetric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

CHUNK = 100_000  # entries of a weight matrix that stay in the processor's cache


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, NaN where the denominator is 0."""
    missing = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator > 0)


def _weighted_mean(per_case: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return _ratio(per_case.astype(np.float64) @ weight, weight.sum(0))


def weighted_rank_auc(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return P(s+ > s-) + P(s+ = s-) / 2 under each weighting, in O(N) per weighting.

    Args:
        score: (N,).
        positive: (N,) bool.
        weight: (N, B), not negative.
    """
    negative = np.flatnonzero(~positive)
    negative = negative[np.argsort(score[negative])]
    below = np.zeros((len(negative) + 1, weight.shape[1]))  # weight of the j lowest negatives
    np.cumsum(weight[negative], axis=0, out=below[1:])
    first = np.searchsorted(score[negative], score[positive], "left")
    last = np.searchsorted(score[negative], score[positive], "right")
    of_positive = weight[positive]
    pairs = np.einsum("nb,nb->b", of_positive, below[first])
    pairs += np.einsum("nb,nb->b", of_positive, below[last])
    return _ratio(pairs / 2, of_positive.sum(0) * below[-1])


def weighted_auc(label: np.ndarray, proba: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the AUC of class 1, or for more classes the mean over those that the part has.

    Args:
        label: (N,) int in [0, K).
        proba: (N, K).
        weight: (N, B), as for all scores here.
    """
    there = auc_classes(label, proba.shape[1])
    if not there:
        return np.full(weight.shape[1], np.nan)
    per_class = [weighted_rank_auc(proba[:, k], label == k, weight) for k in there]
    return np.mean(per_class, axis=0)


def auc_classes(label: np.ndarray, n_classes: int) -> list[int]:
    """List the classes whose AUC is averaged: class 1 of two, else those with cases and others."""
    there = [k for k in range(n_classes) if 0 < np.count_nonzero(label == k) < len(label)]
    return there[-1:] if n_classes == 2 else there


def weighted_accuracy(label: np.ndarray, proba: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the weight of the cases whose most probable class is right."""
    return _weighted_mean(proba.argmax(1) == label, weight)


def weighted_brier(label: np.ndarray, proba: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the mean squared distance to the true class."""
    return _weighted_mean(((proba - np.eye(proba.shape[1])[label]) ** 2).sum(1), weight)


def weighted_nll(label: np.ndarray, proba: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the mean negative log-likelihood in nats."""
    p_true = proba[np.arange(len(label)), label]
    return _weighted_mean(-np.log(p_true.clip(min=P_MIN)), weight)


def weighted_balanced_accuracy(
    label: np.ndarray, proba: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Return the mean recall of the classes that the part has."""
    right = proba.argmax(1) == label
    recall = [_weighted_mean(right[label == k], weight[label == k]) for k in np.unique(label)]
    return np.mean(recall, axis=0) if recall else np.full(weight.shape[1], np.nan)


def weighted_macro_f1(label: np.ndarray, proba: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the unweighted mean F1 of all K classes; a class without weight anywhere has 0."""
    predicted = proba.argmax(1)
    total = np.zeros(weight.shape[1])
    for k in range(proba.shape[1]):
        true, called = label == k, predicted == k
        involved = weight[true].sum(0) + weight[called].sum(0)  # 2 TP + FP + FN
        total += np.nan_to_num(_ratio(2 * weight[true & called].sum(0), involved))
    return np.where(weight.sum(0) > 0, total / proba.shape[1], np.nan)


def weighted_ece(label: np.ndarray, proba: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the expected calibration error, 15 equal bins (lo, hi] of the highest probability."""
    confidence = proba.max(1)
    where = np.digitize(confidence, np.arange(1, N_BINS) / N_BINS, right=True)
    surplus = (proba.argmax(1) == label) - confidence
    per_bin = (surplus * (where == np.arange(N_BINS)[:, None])) @ weight  # (bins, B)
    return _ratio(np.abs(per_bin).sum(0), weight.sum(0))


WEIGHTED: dict[str, WeightedMetric] = {
    "ACC": weighted_accuracy,
    "AUC": weighted_auc,
    "balanced ACC": weighted_balanced_accuracy,
    "macro F1": weighted_macro_f1,
    "ECE": weighted_ece,
    "Brier": weighted_brier,
    "NLL": weighted_nll,
}


def chunks(n: int, n_cases: int) -> Iterator[range]:
    """Cut n weightings of so many cases into pieces that fit the processor's cache."""
    size = max(1, CHUNK // max(n_cases, 1))
    return (range(start, min(start + size, n)) for start in range(0, n, size))


def weighted_scores(
    label: np.ndarray, proba: np.ndarray, weight: np.ndarray, metric: WeightedMetric
) -> np.ndarray:
    """Score every model under every weighting.

    Args:
        label: (N,).
        proba: (S, N, K); rows of NaN are cases that were not scored, the same in all S models.
        weight: (N, B).
        metric: one of this module.

    Returns:
        (S, B).
    """
    scored = scored_cases(proba)
    label, weight = label[scored], weight[scored]
    return np.stack([metric(label, rows[scored], weight) for rows in proba])


def scored_cases(proba: np.ndarray) -> np.ndarray:
    """Return which cases have predictions: (N,) bool.

    Raises:
        ValueError: the models differ in it, so that their scores are of different cases.
    """
    there = ~np.isnan(proba).any(2)  # (S, N)
    if not (there == there[:1]).all():
        raise ValueError(
            "all models must be scored on the same cases, got NaN in some of them only"
        )
    return there.all(0)


def leave_one_out(
    metric: WeightedMetric, label: np.ndarray, proba: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Score S models on all cases and without each.

    Args:
        metric: a score of this module.
        label: (N,) int.
        proba: (S, N, K).

    Returns:
        (S,) with all cases and (S, N) without case n.
    """
    n = proba.shape[1]
    every = weighted_scores(label, proba, np.ones((n, 1)), metric)[:, 0]
    without = [
        weighted_scores(label, proba, 1.0 - np.eye(n)[:, piece.start : piece.stop], metric)
        for piece in chunks(n, n)
    ]
    return every, np.concatenate(without, axis=1)
