"""The two-level bootstrap: trainings and cases drawn anew, for scores without a formula.

The case level is computed once for all models, methods and conditions; each comparison of two
methods then only draws repeats.
"""

# C conditions, R repeats of a method, S models, N cases, K classes, B resamples

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.statistics.weighted import WeightedMetric, chunks, weighted_auc, weighted_scores


@dataclass(frozen=True, eq=False)
class CaseResamples:
    """Scores of models on the cases and on resamples of them, the same ones for all models."""

    value: np.ndarray  # (..., S)
    resampled: np.ndarray  # (..., S, B)

    def __getitem__(self, index: int | slice | tuple[int | slice, ...]) -> CaseResamples:
        """Select models or conditions along the leading axes."""
        return CaseResamples(self.value[index], self.resampled[index])

    def mean_over_conditions(self) -> CaseResamples:
        """Average (C, S) scores into (S,): the column AVG."""
        return CaseResamples(self.value.mean(0), self.resampled.mean(0))


def resample_cases(
    label: np.ndarray,
    proba: np.ndarray,
    *,
    metric: WeightedMetric = weighted_auc,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> CaseResamples:
    """Score models on resamples of the cases, drawn with replacement within each class.

    Args:
        label: (N,) int in [0, K).
        proba: (S, N, K), or (C, S, N, K) for several conditions; rows of NaN are cases that a
            condition does not have.
        metric: a score of `bench.statistics.weighted`.
        n_resamples: B.
        seed: of the draws; the same for all models that are to be compared.

    Returns:
        value (S,) and resampled (S, B), with C in front if `proba` has it.
    """
    label, proba = np.asarray(label), np.asarray(proba, dtype=np.float64)
    conditions = proba if proba.ndim == 4 else proba[None]
    rng = np.random.default_rng(seed)
    ones = np.ones((len(label), 1))
    value = np.stack([weighted_scores(label, rows, ones, metric)[:, 0] for rows in conditions])
    resampled = np.empty((*value.shape, n_resamples))
    for piece in chunks(n_resamples, len(label)):
        weight = case_counts(label, len(piece), rng)
        for c, rows in enumerate(conditions):
            resampled[c, :, piece.start : piece.stop] = weighted_scores(label, rows, weight, metric)
    found = CaseResamples(value, resampled)
    return found if proba.ndim == 4 else found[0]


def case_counts(label: np.ndarray, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw how often each case is in each resample, classes keeping their size: (N, B) float."""
    count = np.empty((len(label), n_resamples))
    for k in np.unique(label):
        members = np.flatnonzero(label == k)
        n = len(members)
        cell = rng.integers(0, n, (n_resamples, n)) + n * np.arange(n_resamples)[:, None]
        drawn = np.bincount(cell.ravel(), minlength=n * n_resamples)
        count[members] = drawn.reshape(n_resamples, n).T
    return count


@dataclass(frozen=True)
class Bootstrap:
    """The difference between two methods by resampling trainings and cases."""

    difference: float  # mean over repeats, first minus second
    interval: tuple[float, float]  # percentiles
    p: float  # two-sided, at least 2 / (B + 1); NaN where a resample has no score
    p_superior: float  # share of resamples in which the first is better, ties half
    n_resamples: int


def two_level_bootstrap(
    first: CaseResamples,
    second: CaseResamples,
    *,
    paired_seeds: bool,
    alpha: float = 0.05,
    seed: int = 0,
) -> Bootstrap:
    """Compare two methods over resampled repeats and, within each draw, resampled cases.

    A check, and an interval for scores without a formula; the default test is Obuchowski and
    Rockette's. Resampling counts the chance of the cases twice, which makes it careful, and R
    repeats have only (R - 1) / R of their spread, which makes it bold: if trainings were all the
    chance there is, 3 of them of one sign (1 in 4 under no difference) would exclude 0.

    Args:
        first: (R_a,) and (R_a, B) of the first method.
        second: of the second, on the same resamples of cases.
        paired_seeds: draw the same repeats of both, because repeat r of both shares split, missing
            pattern and initialisation.
        alpha: one minus the confidence of the interval.
        seed: of the draws of repeats.
    """
    rng = np.random.default_rng([seed, 1])
    n_a, n_resamples = first.resampled.shape
    if n_resamples != second.resampled.shape[1] or (paired_seeds and n_a != len(second.value)):
        raise ValueError(
            "both methods need the same resamples, and as many repeats if these are paired, got "
            f"{first.resampled.shape} and {second.resampled.shape}"
        )
    drawn_a = rng.integers(0, n_a, (n_a, n_resamples))
    shape_b = second.resampled.shape
    drawn_b = drawn_a if paired_seeds else rng.integers(0, shape_b[0], shape_b)
    difference = _mean_of_drawn(first, drawn_a) - _mean_of_drawn(second, drawn_b)
    low, high = np.quantile(difference, [alpha / 2, 1 - alpha / 2]).tolist()
    n_ties = np.count_nonzero(difference == 0)
    p_superior = float((np.count_nonzero(difference > 0) + n_ties / 2) / n_resamples)
    return Bootstrap(
        float(first.value.mean() - second.value.mean()),
        (low, high),
        _percentile_p(difference),
        float("nan") if np.isnan(difference).any() else p_superior,
        n_resamples,
    )


def _mean_of_drawn(method: CaseResamples, drawn: np.ndarray) -> np.ndarray:
    return np.take_along_axis(method.resampled, drawn, axis=0).mean(0)


def _percentile_p(difference: np.ndarray) -> float:
    """Return the alpha at which the percentile interval begins to hold 0."""
    if np.isnan(difference).any():
        return float("nan")
    n_fewer = min(np.count_nonzero(difference <= 0), np.count_nonzero(difference >= 0))
    return float(min(1.0, 2 * (n_fewer + 1) / (len(difference) + 1)))
