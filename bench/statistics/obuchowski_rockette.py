"""One method against another when both the trainings and the cases are a sample.

A repeat (a training with its own seed) takes the place of a reader in a reading study: Obuchowski
and Rockette (1995), with the degrees of freedom of Hillis (2007). The claim is about the training
procedure on new cases, which is what a table of mean and SD over seeds is read as.
"""

# R repeats of a method, S = R_a + R_b models, N cases, K classes, C conditions

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench.statistics.estimates import (
    RELATIVE_ROUNDING,
    ROUNDING,
    Estimates,
    delong,
    jackknife,
    mean_estimates,
    p_without_variance,
)
from bench.statistics.tails import t_quantile, two_sided_t
from bench.statistics.weighted import WeightedMetric, scored_cases, weighted_accuracy, weighted_auc


@dataclass(frozen=True)
class ObuchowskiRockette:
    """The difference between two methods over new trainings and new cases.

    `p` is NaN where the test has nothing to work with: one repeat of a method, a class with too few
    cases, a difference without any variance.
    """

    difference: float  # mean over repeats, first minus second
    se: float
    statistic: float  # F = t squared; NaN without variance
    df: float  # of the denominator; the numerator has 1
    p: float  # two-sided
    interval: tuple[float, float]
    ms_method: float  # mean square of methods
    ms_error: float  # method x repeat (crossed) or repeats within methods (nested)
    cov1: float | None  # same repeat, other method; nested designs have no same repeat
    cov2: float  # other repeat, same method
    cov3: float  # other repeat, other method; nested: any repeats, other method


@dataclass(frozen=True)
class _Parts:
    """What the two designs compute differently."""

    ms_error: float
    df_error: int
    cov1: float | None
    cov2: float
    cov3: float


def _mean_off_diagonal(block: np.ndarray) -> float:
    n = len(block)
    return float((block.sum() - np.trace(block)) / (n * (n - 1)))


def _crossed(a: np.ndarray, b: np.ndarray, covariance: np.ndarray) -> _Parts:
    """Repeat r of one method belongs to repeat r of the other."""
    n = len(a)
    between = covariance[:n, n:]
    return _Parts(
        float((a - b).var(ddof=1) / 2),
        n - 1,
        float(np.trace(between) / n),
        (_mean_off_diagonal(covariance[:n, :n]) + _mean_off_diagonal(covariance[n:, n:])) / 2,
        _mean_off_diagonal(between),
    )


def _nested(a: np.ndarray, b: np.ndarray, covariance: np.ndarray) -> _Parts:
    """Each method has repeats of its own."""
    n_a, n_b = len(a), len(b)
    squares = ((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()
    within = covariance[:n_a, :n_a], covariance[n_a:, n_a:]
    return _Parts(
        float(squares / (n_a + n_b - 2)),
        n_a + n_b - 2,
        None,
        (_mean_off_diagonal(within[0]) + _mean_off_diagonal(within[1])) / 2,
        float(covariance[:n_a, n_a:].mean()),
    )


def obuchowski_rockette(
    estimates: Estimates, n_first: int, *, paired_seeds: bool, alpha: float = 0.05
) -> ObuchowskiRockette:
    """Test whether two methods differ, with repeats and cases both random.

    F = MS(method) / (MS(error) + R max(cov2 - cov3, 0)), and the denominator's degrees of freedom
    are its square over MS(error)^2 / df(error) (Hillis 2007). Nested repeats follow the same rule
    with the repeats within methods as the error and all pairs between methods in cov3; there the
    methods may have different numbers of repeats.

    Assumes equal error variances and covariances of both methods, and repeats that are exchangeable
    within a method.

    Args:
        estimates: of S models on the same cases, those of the first method first.
        n_first: how many belong to the first method.
        paired_seeds: crossed design: repeat r of both methods shares split, missing pattern and
            initialisation. False: nested, the repeats of the methods are independent.
        alpha: one minus the confidence of the interval.
    """
    a, b = estimates.value[:n_first], estimates.value[n_first:]
    if not len(a) or not len(b) or (paired_seeds and len(a) != len(b)):
        raise ValueError(f"repeats of two methods are needed, got {len(a)} and {len(b)}")
    per_repeat = 1 / len(a) + 1 / len(b)
    if min(len(a), len(b)) < 2:
        parts = _Parts(math.nan, 0, None, math.nan, math.nan)
    else:
        parts = (_crossed if paired_seeds else _nested)(a, b, estimates.covariance)
    return _tested(float(a.mean() - b.mean()), per_repeat, parts, alpha)


def _tested(
    difference: float, per_repeat: float, parts: _Parts, alpha: float
) -> ObuchowskiRockette:
    denominator = parts.ms_error + 2 * max(parts.cov2 - parts.cov3, 0.0) / per_repeat
    # What is left of equal numbers after subtraction is rounding, not variance.
    if denominator <= ROUNDING + RELATIVE_ROUNDING * abs(parts.cov2):
        denominator = 0.0
    se, df = math.sqrt(per_repeat * denominator), _hillis_df(denominator, parts)
    ms_method = difference**2 / per_repeat
    if se > 0:
        statistic = ms_method / denominator
        p, half = two_sided_t(difference / se, df), t_quantile(1 - alpha / 2, df) * se
    else:
        statistic, p, half = math.nan, p_without_variance(difference, se), se
    return ObuchowskiRockette(
        difference=difference,
        se=se,
        statistic=statistic,
        df=df,
        p=p,
        interval=(difference - half, difference + half),
        ms_method=ms_method,
        ms_error=parts.ms_error,
        cov1=parts.cov1,
        cov2=parts.cov2,
        cov3=parts.cov3,
    )


def _hillis_df(denominator: float, parts: _Parts) -> float:
    if parts.ms_error == 0:
        return math.inf
    return denominator**2 * parts.df_error / parts.ms_error**2


# --- from predictions -------------------------------------------------------------------------


def compare_methods(
    label: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    *,
    metric: WeightedMetric = weighted_auc,
    paired_seeds: bool,
    alpha: float = 0.05,
) -> ObuchowskiRockette:
    """Compare two methods by their predictions on the same cases.

    The covariances are DeLong's for the AUC of two classes, those of correctness for accuracy, and
    a jackknife over cases for everything else: the macro AUC, any other score, and every mean over
    conditions.

    Args:
        label: (N,) int in [0, K).
        a: (R_a, N, K) probabilities of the first method, or (C, R_a, N, K) to compare the means
            over conditions. Rows of NaN are cases that a condition does not have.
        b: (R_b, N, K) or (C, R_b, N, K) of the second, with NaN for the same cases.
        metric: a score of `bench.statistics.weighted`.
        paired_seeds: whether repeat r of both shares split, missing pattern and initialisation.
        alpha: one minus the confidence of the interval.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    proba = np.concatenate([a, b], axis=-3)
    estimates = estimate(np.asarray(label), proba, metric)
    return obuchowski_rockette(estimates, a.shape[-3], paired_seeds=paired_seeds, alpha=alpha)


def estimate(label: np.ndarray, proba: np.ndarray, metric: WeightedMetric) -> Estimates:
    """Estimate scores and their covariance in the way that suits the metric.

    Args:
        label: (N,) int in [0, K).
        proba: (S, N, K) or (C, S, N, K), as for `compare_methods`.
        metric: a score of `bench.statistics.weighted`.
    """
    if len(proba) == 1 and proba.ndim == 4:
        proba = proba[0]
    if proba.ndim == 4:
        return jackknife(label, proba, metric)
    scored = scored_cases(proba)
    label, proba = label[scored], proba[:, scored]
    if metric is weighted_auc and proba.shape[2] == 2:
        return delong(proba[:, :, 1], label == 1)
    if metric is weighted_accuracy:
        return mean_estimates(proba.argmax(2) == label)
    return jackknife(label, proba, metric)
