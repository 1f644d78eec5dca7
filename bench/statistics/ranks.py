"""Several methods over several datasets, by ranks (Demsar 2006).

A block is a dataset, or whatever else is independent of the other blocks. Subsets of modalities of
one dataset are not: the nets and the patients are the same.
"""

# M methods, D blocks

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bench.errors import BadRequest
from bench.statistics.multiplicity import adjust
from bench.statistics.paired import midranks, signed_rank
from bench.statistics.tails import (
    studentized_range_quantile,
    two_sided_t,
    upper_chi2,
    upper_f,
    upper_studentized_range,
)

# With 5 datasets no signed-rank test between two methods can reach 0.05, and 6 is the least.
MIN_DATASETS = 6


def _blocks(score: np.ndarray) -> np.ndarray:
    score = np.asarray(score, dtype=np.float64)
    if score.ndim != 2 or min(score.shape) < 2 or not np.isfinite(score).all():
        raise ValueError(
            "score must be (M, D) and finite, 2 methods or more by 2 blocks or more, "
            f"got {score.shape}"
        )
    return score


def ranks(score: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
    """Rank the methods within each block, 1 the best, ties sharing the mean of their ranks.

    Args:
        score: (M, D).
        higher_is_better: False for losses and errors.

    Returns:
        (M, D).
    """
    signed = -_blocks(score) if higher_is_better else _blocks(score)
    return np.stack([midranks(block) for block in signed.round(10).T], axis=1)


@dataclass(frozen=True)
class Friedman:
    """Whether M methods differ at all over D blocks."""

    average_rank: tuple[float, ...]  # (M,), 1 the best
    chi2: float  # corrected for ties; NaN where all methods tie in every block
    p: float
    iman_davenport_f: float  # less conservative than chi2; infinite where all blocks agree
    iman_davenport_p: float
    kendall_w: float  # agreement between blocks, 0 to 1


def friedman(score: np.ndarray, *, higher_is_better: bool = True) -> Friedman:
    """Test whether methods differ over blocks (Friedman 1937; Iman and Davenport 1980).

    Args:
        score: (M, D), one row per method, one column per independent block.
        higher_is_better: False for losses and errors.
    """
    rank = ranks(score, higher_is_better=higher_is_better)
    n_methods, n_blocks = rank.shape
    centred = rank - (n_methods + 1) / 2
    spread = float((centred**2).sum())  # smaller with ties, which corrects for them
    average = tuple(rank.mean(1).tolist())
    if not spread:
        nan = math.nan
        return Friedman(average, nan, nan, nan, nan, nan)
    w = float((centred.sum(1) ** 2).sum()) / (n_blocks * spread)
    chi2 = n_blocks * (n_methods - 1) * w
    f = (n_blocks - 1) * w / (1 - w) if w < 1 else math.inf
    df1, df2 = n_methods - 1, (n_methods - 1) * (n_blocks - 1)
    return Friedman(average, chi2, upper_chi2(chi2, df1), f, upper_f(f, df1, df2), w)


def nemenyi(score: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
    """Return the p of every pair of average ranks by Nemenyi's test (Demsar 2006): (M, M).

    The verdict on two methods depends on the others in the table (Benavoli, Corani and Mangili
    2016); `critical_difference` therefore takes `pairwise_signed_rank`.

    Args:
        score: (M, D).
        higher_is_better: False for losses and errors.
    """
    rank = ranks(score, higher_is_better=higher_is_better)
    n_methods, n_blocks = rank.shape
    difference = np.abs(np.subtract.outer(rank.mean(1), rank.mean(1)))
    se = math.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks))
    p = upper_studentized_range(difference / se * math.sqrt(2), n_methods)
    np.fill_diagonal(p, 1.0)
    return p


def nemenyi_difference(n_methods: int, n_blocks: int, *, alpha: float = 0.05) -> float:
    """Return the critical difference of average ranks in Nemenyi's test (Demsar 2006, eq. 5).

    Infinitely many degrees of freedom; as Nemenyi's test it depends on how many methods there are.
    """
    q = studentized_range_quantile(1 - alpha, n_methods) / math.sqrt(2)
    return q * math.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks))


def conover(score: np.ndarray, *, higher_is_better: bool = True) -> np.ndarray:
    """Return the unadjusted p of every pair of rank sums by Conover's t (Conover 1999): (M, M).

    To be read only after a significant Friedman test. NaN where the blocks agree on everything.

    Args:
        score: (M, D).
        higher_is_better: False for losses and errors.
    """
    rank = ranks(score, higher_is_better=higher_is_better)
    n_methods, n_blocks = rank.shape
    sums, df = rank.sum(1), (n_methods - 1) * (n_blocks - 1)
    variance = 2 * (n_blocks * (rank**2).sum() - (sums**2).sum()) / df
    p = np.full((n_methods, n_methods), np.nan)
    for i, j in combinations(range(n_methods), 2):
        if variance > 0:
            p[i, j] = p[j, i] = two_sided_t(float(sums[i] - sums[j]) / math.sqrt(variance), df)
    np.fill_diagonal(p, 1.0)
    return p


@dataclass(frozen=True, eq=False)
class PairwiseSignedRank:
    """Exact signed-rank tests of every pair of methods over blocks."""

    p: np.ndarray  # (M, M), 1 on the diagonal
    adjusted: np.ndarray  # (M, M), by Holm over the pairs


def pairwise_signed_rank(score: np.ndarray) -> PairwiseSignedRank:
    """Test every pair of methods over blocks, with Holm's correction.

    Args:
        score: (M, D), one column per independent block.
    """
    score = _blocks(score)
    pairs = list(combinations(range(len(score)), 2))
    raw = np.array([signed_rank(score[i] - score[j]).p for i, j in pairs])
    tables = []
    for values in (raw, adjust(raw, "holm")):
        table = np.ones((len(score), len(score)))
        for (i, j), value in zip(pairs, values, strict=True):
            table[i, j] = table[j, i] = value
        tables.append(table)
    return PairwiseSignedRank(*tables)


@dataclass(frozen=True, eq=False)
class CriticalDifference:
    """What a critical-difference diagram shows."""

    average_rank: tuple[float, ...]  # (M,), 1 the best
    adjusted: np.ndarray  # (M, M) p of the pairs, by Holm
    cliques: tuple[tuple[int, ...], ...]  # methods joined by a bar, by average rank


def critical_difference(
    score: np.ndarray, *, higher_is_better: bool = True, alpha: float = 0.05
) -> CriticalDifference:
    """Rank methods over datasets and join those that do not differ (Benavoli et al. 2016).

    A bar joins neighbours in average rank of whom no pair differs; bars inside longer ones are
    left out.

    Args:
        score: (M, D), one column per dataset.
        higher_is_better: False for losses and errors.
        alpha: of the adjusted pairwise tests.

    Raises:
        BadRequest: there are fewer than 6 datasets.
    """
    score = _blocks(score)
    n_datasets = score.shape[1]
    if n_datasets < MIN_DATASETS:
        raise BadRequest(
            f"a critical-difference diagram needs at least {MIN_DATASETS} datasets, got "
            f"{n_datasets}: with fewer no two methods can differ; compare within each dataset"
        )
    average = ranks(score, higher_is_better=higher_is_better).mean(1)
    adjusted = pairwise_signed_rank(score).adjusted
    order = np.argsort(average, kind="stable")
    equal = adjusted[np.ix_(order, order)] > alpha
    return CriticalDifference(tuple(average.tolist()), adjusted, _bars(equal, order))


def _bars(equal: np.ndarray, order: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Return the longest runs of methods, in order of rank, in which all pairs are equal."""
    n, reach, bars = len(order), 0, []
    for first in range(n):
        last = first
        while last + 1 < n and equal[first : last + 2, first : last + 2].all():
            last += 1
        if last > first and last > reach:
            bars.append(tuple(order[first : last + 1].tolist()))
            reach = last
    return tuple(bars)
