"""Scores of several models on the same cases, with the covariance that chance cases give them.

The models share their test cases, so their scores move together when the cases are drawn anew.
Three ways to that covariance: DeLong's for the AUC of two classes, the plain one for a mean over
cases, and the jackknife for every other score and for means over conditions.
"""

# S models (method x repeat), N cases, K classes, C conditions

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench.statistics.tails import normal_quantile, two_sided_normal
from bench.statistics.weighted import (
    WeightedMetric,
    auc_classes,
    leave_one_out,
    scored_cases,
    weighted_auc,
    weighted_scores,
)

# What subtraction leaves of equal numbers. Real differences of AUC or accuracy are multiples of
# 1 / (number of pairs or cases), so a real variance is larger.
ROUNDING = 1e-24  # of a variance
RELATIVE_ROUNDING = 1e-13  # of a variance, against the variances that it is made of
EQUAL = 1e-10  # two scores that differ by less are the same score


@dataclass(frozen=True, eq=False)
class Estimates:
    """Scores of S models and how they vary together over draws of the test cases."""

    value: np.ndarray  # (S,), NaN where undefined
    covariance: np.ndarray  # (S, S), NaN where the cases are too few to tell


def _covariance_of_mean(components: np.ndarray) -> np.ndarray:
    """Return the (S, S) covariance of the row means of (S, N); NaN below two columns."""
    n = components.shape[1]
    if n < 2:
        return np.full((len(components),) * 2, np.nan)
    centred = components - components.mean(1, keepdims=True)
    return centred @ centred.T / (n * (n - 1))


def placements(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of the other class that each case stands on the right side of.

    Computed by binary search among the sorted scores, O(N log N) per model (as fast as the mid-rank
    way of Sun and Xu 2014, and the same numbers); a tie counts half.

    Args:
        score: (S, N).
        positive: (N,) bool.

    Returns:
        Of the positive cases, (S, N1): the share of negatives below; of the negative cases,
        (S, N0): the share of positives above. Both have the AUC as their mean.
    """
    above, below = score[:, positive], score[:, ~positive]
    return _share_below(above, below), 1 - _share_below(below, above)


def _share_below(score: np.ndarray, others: np.ndarray) -> np.ndarray:
    n_others = others.shape[1]
    if not n_others:
        return np.full(score.shape, np.nan)
    counts = [
        np.searchsorted(pool, row, "left") + np.searchsorted(pool, row, "right")
        for row, pool in zip(score, np.sort(others, axis=1), strict=True)
    ]
    return np.stack(counts) / (2 * n_others)


def delong(score: np.ndarray, positive: np.ndarray) -> Estimates:
    """Estimate AUCs and their covariance (DeLong, DeLong and Clarke-Pearson 1988).

    Assumes that cases are independent. NaN without a pair, and in the covariance below two cases of
    a class.

    Args:
        score: (S, N), higher means positive.
        positive: (N,) bool.
    """
    score, positive = np.asarray(score, dtype=np.float64), np.asarray(positive, dtype=bool)
    if score.ndim != 2 or positive.shape != score.shape[1:]:
        raise ValueError(
            f"score must be (S, N) and positive (N,), got {score.shape} and {positive.shape}"
        )
    if positive.all() or not positive.any():
        return Estimates(np.full(len(score), np.nan), np.full((len(score),) * 2, np.nan))
    of_positive, of_negative = placements(score, positive)
    covariance = _covariance_of_mean(of_positive) + _covariance_of_mean(of_negative)
    return Estimates(of_positive.mean(1), covariance)


def mean_estimates(per_case: np.ndarray) -> Estimates:
    """Estimate means over cases, such as accuracy from correctness, and their covariance.

    Args:
        per_case: (S, N), for accuracy 1 where the model is right.
    """
    per_case = np.asarray(per_case, dtype=np.float64)
    return Estimates(per_case.mean(1), _covariance_of_mean(per_case))


def jackknife(label: np.ndarray, proba: np.ndarray, metric: WeightedMetric) -> Estimates:
    """Estimate any score, or its mean over conditions, leaving out one case at a time.

    The covariance is (N - 1) / N times the sum of products of deviations (Efron 1982). Good for
    smooth scores of many cases. It is NaN where a score loses its meaning without one case (the
    only one of its class), because then the cases cannot tell how much chance there is.

    Args:
        label: (N,) int in [0, K).
        proba: (S, N, K), or (C, S, N, K) for the mean over conditions; rows of NaN are cases that
            a condition does not have.
        metric: a score under case weights, from `bench.statistics.weighted`.
    """
    label, proba = np.asarray(label), np.asarray(proba, dtype=np.float64)
    conditions = proba if proba.ndim == 4 else proba[None]
    without_each = _auc_without_each if metric is weighted_auc else partial(leave_one_out, metric)
    values, withouts = zip(*(without_each(label, rows) for rows in conditions), strict=True)
    without = np.mean(withouts, axis=0)
    n = without.shape[1]
    centred = without - without.mean(1, keepdims=True)
    return Estimates(np.mean(values, axis=0), (n - 1) / n * (centred @ centred.T))


def _auc_without_each(label: np.ndarray, proba: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do for the AUC what `leave_one_out` does, from placements: O(N log N) instead of O(N^2)."""
    scored = scored_cases(proba)
    label, n_classes = label[scored], proba.shape[2]
    value = weighted_scores(label, proba[:, scored], np.ones((len(label), 1)), weighted_auc)
    without = np.repeat(value, len(scored), axis=1)
    there = auc_classes(label, n_classes)
    if there:
        per_class = [_binary_without_each(proba[:, scored, k], label == k) for k in there]
        without[:, scored] = np.mean(per_class, axis=0)
    return value[:, 0], without


def _binary_without_each(score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return the AUC without each case, (S, N); NaN without the only one of its class."""
    without = np.empty(score.shape)
    for part, share in zip((positive, ~positive), placements(score, positive), strict=True):
        n = share.shape[1]
        rest = share.sum(1, keepdims=True) - share
        without[:, part] = rest / (n - 1) if n > 1 else np.nan
    return without


# --- one model against another ----------------------------------------------------------------


@dataclass(frozen=True)
class PairedDelong:
    """The AUC of one model against that of another on the same cases."""

    auc: tuple[float, float]
    variance: tuple[float, float]
    covariance: float
    difference: float  # first minus second
    se: float
    z: float  # NaN where the difference has no variance
    p: float  # two-sided; 1 for equal AUCs without variance, NaN for unequal ones
    interval: tuple[float, float]


def paired_delong(
    a: np.ndarray, b: np.ndarray, positive: np.ndarray, *, alpha: float = 0.05
) -> PairedDelong:
    """Compare the AUCs of two trained models (DeLong et al. 1988).

    It is about these two models on new cases. It says nothing about training again, and stacking
    the cases of several seeds as if they were new ones is wrong: use Obuchowski-Rockette.

    Args:
        a, b: (N,) scores of the positive class on the same cases.
        positive: (N,) bool.
        alpha: one minus the confidence of the interval, which is normal.
    """
    found = delong(np.stack([a, b]), positive)
    (auc_a, auc_b), ((var_a, covariance), (_, var_b)) = (
        found.value.tolist(),
        found.covariance.tolist(),
    )
    difference, variance = auc_a - auc_b, var_a + var_b - 2 * covariance
    if variance <= ROUNDING + RELATIVE_ROUNDING * (var_a + var_b):
        variance = 0.0
    se = math.sqrt(variance)
    half = normal_quantile(1 - alpha / 2) * se
    return PairedDelong(
        auc=(auc_a, auc_b),
        variance=(var_a, var_b),
        covariance=covariance,
        difference=difference,
        se=se,
        z=difference / se if se else math.nan,
        p=two_sided_normal(difference / se) if se > 0 else p_without_variance(difference, se),
        interval=(difference - half, difference + half),
    )


def p_without_variance(difference: float, se: float) -> float:
    """Return 1 for no difference and no variance, NaN where the variance is unknown or denied."""
    return 1.0 if se == 0 and abs(difference) < EQUAL else math.nan
