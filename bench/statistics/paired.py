"""Tests on paired numbers, one pair per independent unit: seeds, folds, datasets, cases.

None of them knows where a pair comes from. Pairs that share a model or a patient are not
independent, and these tests then find differences that are not there.
"""

# N pairs

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.statistics.estimates import EQUAL, p_without_variance
from bench.statistics.tails import t_quantile, two_sided_t, upper_chi2, upper_normal

Alternative = Literal["two-sided", "greater", "less"]
Zeros = Literal["wilcox", "pratt", "zsplit"]
McNemarMethod = Literal["mid-p", "exact", "chi2", "chi2-corrected"]

DECIMALS = 10  # differences equal to so many decimals are ties: 0.3 - 0.2 and 0.2 - 0.1
MAX_EXACT = 500  # pairs up to which the signed-rank distribution is computed


def _differences(difference: np.ndarray) -> np.ndarray:
    difference = np.asarray(difference, dtype=np.float64)
    if difference.ndim != 1 or not len(difference) or not np.isfinite(difference).all():
        raise ValueError(f"differences must be finite and (N,), got {difference!r:.80}")
    return difference


# --- signed ranks -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test."""

    w_plus: float  # sum of the ranks of positive differences
    w_minus: float
    statistic: float  # the smaller of both; w_plus for a one-sided test
    p: float
    n_nonzero: int
    rank_biserial: float  # (w_plus - w_minus) / (w_plus + w_minus), NaN without ranks
    exact: bool


def signed_rank(
    difference: np.ndarray,
    *,
    zeros: Zeros = "wilcox",
    alternative: Alternative = "two-sided",
    exact: bool | None = None,
) -> SignedRank:
    """Test whether paired differences are symmetric about 0 (Wilcoxon 1945).

    The exact p counts all 2^n signs of the ranks at hand, so that it holds with ties and zeros.
    Differences are rounded to 1e-10 before they are ranked.

    Args:
        difference: (N,) one per independent unit.
        zeros: `wilcox` drops zeros, `pratt` ranks them and then drops their ranks, `zsplit` gives
            half of their ranks to either side.
        alternative: `greater`: differences tend to be positive.
        exact: False: the normal approximation with ties and without continuity correction, which
            is wrong for few pairs. None: exact up to 500 pairs.
    """
    difference = _differences(difference).round(DECIMALS)
    if zeros == "wilcox":
        difference = difference[difference != 0]
    rank = midranks(np.abs(difference))
    sign = np.sign(difference)
    split = rank[sign == 0].sum() / 2 if zeros == "zsplit" else 0.0
    w_plus, w_minus = (float(rank[sign == s].sum() + split) for s in (1, -1))
    exact = len(rank) <= MAX_EXACT if exact is None else exact
    used = rank[sign != 0]
    if exact:
        tails = _exact_tails(used, w_plus - split)
    else:
        tails = _normal_tails(rank if zeros == "zsplit" else used, w_plus - w_minus)
    total = w_plus + w_minus
    return SignedRank(
        w_plus=w_plus,
        w_minus=w_minus,
        statistic=min(w_plus, w_minus) if alternative == "two-sided" else w_plus,
        p=_p_of(tails, alternative),
        n_nonzero=len(used),
        rank_biserial=(w_plus - w_minus) / total if total else math.nan,
        exact=exact,
    )


def midranks(value: np.ndarray) -> np.ndarray:
    """Rank from 1, equal values sharing the mean of their ranks: (N,) float."""
    _, place, count = np.unique(value, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[place]


def _p_of(tails: tuple[float, float], alternative: Alternative) -> float:
    """Return p from P(W <= w) and P(W >= w)."""
    lower, upper = tails
    if alternative == "two-sided":
        return min(1.0, 2 * min(lower, upper))
    return upper if alternative == "greater" else lower


def _exact_tails(rank: np.ndarray, w_plus: float) -> tuple[float, float]:
    """Add the ranks one by one, each with either sign: the distribution of w_plus.

    Midranks are halves, so doubled ranks are whole numbers and index the distribution.
    """
    doubled = np.rint(2 * rank).astype(int)
    probability = np.zeros(doubled.sum() + 1)
    probability[0] = 1.0
    for step in doubled:
        shifted = np.zeros_like(probability)
        shifted[step:] = probability[: len(probability) - step]
        probability = (probability + shifted) / 2
    at = round(2 * w_plus)
    return float(probability[: at + 1].sum()), float(probability[at:].sum())


def _normal_tails(rank: np.ndarray, surplus: float) -> tuple[float, float]:
    """Approximate both tails; `surplus` is w_plus - w_minus, with variance sum(rank^2)."""
    sd = math.sqrt(float((rank**2).sum()))
    z = surplus / sd if sd else 0.0
    return upper_normal(-z), upper_normal(z)


# --- sign flips -------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignFlip:
    """A permutation test of paired differences."""

    mean: float
    p: float  # two-sided
    exact: bool  # all sign patterns, or a sample of them
    n_flips: int


def sign_flip(
    difference: np.ndarray, *, n_resamples: int = 10_000, n_exact: int = 16, seed: int = 0
) -> SignFlip:
    """Test whether the mean of paired differences is 0 by flipping their signs (Fisher 1935).

    Args:
        difference: (N,) one per independent unit.
        n_resamples: drawn beyond `n_exact` pairs; then p = (hits + 1) / (n_resamples + 1).
        n_exact: pairs up to which all 2^N patterns are counted.
        seed: of the drawn patterns.
    """
    difference = _differences(difference)
    n = len(difference)
    exact = n <= n_exact
    if exact:
        negative = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        negative = np.random.default_rng(seed).integers(0, 2, (n_resamples, n))
    means = (difference.sum() - 2 * (negative @ difference)) / n
    observed = float(difference.mean())
    n_hits = int((np.abs(means) >= abs(observed) - EQUAL).sum())
    extra = 0 if exact else 1  # the observed pattern counts as one of those drawn
    return SignFlip(observed, (n_hits + extra) / (len(means) + extra), exact, len(means))


# --- folds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResampledT:
    """The corrected resampled t-test."""

    mean: float
    se: float
    t: float  # NaN without variance
    df: int
    p: float  # two-sided; 1 for no difference and no variance, NaN for a constant difference
    interval: tuple[float, float]


def corrected_resampled_t(
    difference: np.ndarray, *, n_train: int, n_test: int, alpha: float = 0.05
) -> ResampledT:
    """Test the mean difference over folds whose training parts overlap.

    se^2 = (1 / J + n_test / n_train) s^2 with J - 1 degrees of freedom (Nadeau and Bengio 2003);
    for r times repeated k-fold cross-validation J = k r (Bouckaert and Frank 2004).

    Args:
        difference: (J,) one per fold, seeds within a fold averaged before.
        n_train: cases that a fold is trained on.
        n_test: cases that a fold is tested on.
        alpha: one minus the confidence of the interval.
    """
    difference = _differences(difference)
    n, mean = len(difference), float(difference.mean())
    if n < 2:
        nan = math.nan
        return ResampledT(mean, nan, nan, 0, nan, (nan, nan))
    constant = np.ptp(difference) < EQUAL
    variance = 0.0 if constant else float(difference.var(ddof=1))
    se = math.sqrt((1 / n + n_test / n_train) * variance)
    half = t_quantile(1 - alpha / 2, n - 1) * se
    t = mean / se if se else math.nan
    p = two_sided_t(t, n - 1) if se else p_without_variance(mean, se)
    return ResampledT(mean, se, t, n - 1, p, (mean - half, mean + half))


# --- two models, case by case -----------------------------------------------------------------


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two models on the same cases."""

    statistic: float  # the smaller count, or chi squared; NaN without a discordant case
    p: float  # two-sided; 1 without a discordant case


def mcnemar(n_first: int, n_second: int, *, method: McNemarMethod = "mid-p") -> McNemar:
    """Test whether two trained models have the same accuracy (McNemar 1947).

    It is about these two models on new cases, not about training again. The mid-p version, the
    exact p less the probability of the count at hand, has nearly its level and more power
    (Fagerland, Lydersen and Laake 2013).

    Args:
        n_first: cases that only the first model gets right.
        n_second: cases that only the second one gets right.
        method: `chi2` and `chi2-corrected` (by 1, Edwards 1948) are approximations.
    """
    n, fewer = n_first + n_second, min(n_first, n_second)
    if method.startswith("chi2"):
        if not n:
            return McNemar(math.nan, 1.0)
        surplus = abs(n_first - n_second) - (1 if method == "chi2-corrected" else 0)
        chi2 = surplus**2 / n
        return McNemar(chi2, upper_chi2(chi2, 1))
    # Whole numbers out of 2^n, divided once: exact for any count.
    n_ways = [1]  # of each count up to the smaller one
    for k in range(fewer):
        n_ways.append(n_ways[-1] * (n - k) // (k + 1))
    n_as_far = min(2**n, 2 * sum(n_ways))
    if method == "mid-p" and n:
        n_as_far -= n_ways[-1]
    return McNemar(float(fewer), n_as_far / 2**n)


# --- effects ----------------------------------------------------------------------------------


def probability_of_superiority(a: np.ndarray, b: np.ndarray, *, paired: bool = False) -> float:
    """Return P(A > B) + P(A = B) / 2: how often a run of the first method beats one of the second.

    Args:
        a: (R_a,) scores of the first method, one per run.
        b: (R_b,) of the second.
        paired: compare run r with run r alone (R_a = R_b), not every run with every run.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    difference = (a - b if paired else np.subtract.outer(a, b)).round(DECIMALS)
    return float((difference > 0).mean() + (difference == 0).mean() / 2)
