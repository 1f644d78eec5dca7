"""Where a method scores worse with more: pairs of conditions of which one contains the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.layout import LayoutColumn
from bench.scores.metrics import Metric, metric_named
from bench.scores.results import RunResult
from bench.scores.rows import RowRuns


@dataclass(frozen=True)
class Pair:
    """A column and one that holds more, with their means over repeats."""

    smaller: LayoutColumn
    larger: LayoutColumn
    score_smaller: float  # on the cases of both columns
    score_larger: float


def contains(larger: LayoutColumn, smaller: LayoutColumn) -> bool:
    """Tell whether every case has under one condition all that it has under the other, and more.

    A subset contains its parts, and patterns are nested: what is there at 30 % is there at 10 %.
    """
    if larger.setting != smaller.setting or larger.block != smaller.block:
        return False
    if larger.subset is not None and smaller.subset is not None:
        return set(smaller.subset) < set(larger.subset)
    if larger.rate is None or smaller.rate is None:
        return False
    return larger.rate < smaller.rate and larger.condition != smaller.condition


def compared(row: RowRuns, columns: Sequence[LayoutColumn], metric: Metric) -> list[Pair]:
    """Score all pairs of nested columns on the cases that both have."""
    pairs = []
    for smaller in columns:
        for larger in columns:
            if not contains(larger, smaller):
                continue
            means = _means(row.trained(smaller.setting).done, smaller, larger, metric)
            pairs += [] if means is None else [Pair(smaller, larger, *means)]
    return pairs


def is_violation(pair: Pair, metric: Metric) -> bool:
    """Tell whether the larger column scores worse by mean."""
    sign = 1.0 if metric.better == "higher" else -1.0
    return sign * (pair.score_smaller - pair.score_larger) > 1e-12


def violations(
    row: RowRuns, columns: Sequence[LayoutColumn], metric: Metric
) -> tuple[list[Pair], int]:
    """List the pairs in which the larger scores worse, and count the pairs compared."""
    pairs = compared(row, columns, metric)
    return [pair for pair in pairs if is_violation(pair, metric)], len(pairs)


def _means(
    runs: Sequence[RunResult], first: LayoutColumn, second: LayoutColumn, metric: Metric
) -> tuple[float, float] | None:
    """Return the means over repeats of both columns on their common cases; None without any."""
    pairs = []
    for run in runs:
        if first.condition in run.parts and second.condition in run.parts:
            pair = _pair(run, first.condition, second.condition, metric)
            if not np.isnan(pair).any():
                pairs.append(pair)
    if not pairs:
        return None
    low, high = np.mean(pairs, axis=0)
    return float(low), float(high)


def _pair(run: RunResult, first: str, second: str, metric: Metric) -> tuple[float, float]:
    parts = run.parts[first], run.parts[second]
    common = np.intersect1d(parts[0][0], parts[1][0])
    scores = []
    for case, label, proba in parts:
        kept = np.isin(case, common)
        scores.append(metric.score(label[kept], proba[kept])[0])
    return scores[0], scores[1]


def pairs_sentence(columns: Sequence[LayoutColumn]) -> str:
    """Say which columns are compared; empty if none contains another."""
    n_pairs = sum(contains(larger, smaller) for larger in columns for smaller in columns)
    if not n_pairs:
        return ""
    return (
        f"In {n_pairs} pairs of columns one contains the other; footnotes list the pairs in which "
        "it scores worse by mean, on the cases of both."
    )


def violations_sentence(
    row: RowRuns, columns: Sequence[LayoutColumn], metrics: Sequence[str]
) -> str:
    """List where a row scores worse with more; empty if it never does."""
    said = []
    for metric in map(metric_named, metrics):
        found, n_pairs = violations(row, columns, metric)
        if found:
            listing = ", ".join(_said(each, metric) for each in found)
            said.append(f"{metric.name} in {len(found)} of {n_pairs} pairs, {listing}")
    return f"{row.label} scores worse with more: {'; '.join(said)}." if said else ""


def _said(found: Pair, metric: Metric) -> str:
    scores = (metric.factor * found.score_larger, metric.factor * found.score_smaller)
    larger, smaller = (f"{score:.{metric.digits}f}" for score in scores)
    word = "below" if metric.better == "higher" else "above"
    return f"{found.larger.name} {larger} {word} {found.smaller.name} {smaller}"
