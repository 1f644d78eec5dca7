"""Many comparisons at once, and which of them can reach significance at all."""

# m comparisons of one family

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Correction = Literal["none", "bonferroni", "holm", "holm-sidak", "hommel", "bh", "by"]
Test = Literal[
    "obuchowski-rockette",
    "delong",
    "corrected-t",
    "bootstrap",
    "signed-rank",
    "sign-flip",
    "mcnemar-exact",
    "mcnemar-mid-p",
]


# --- corrections, on ascending p --------------------------------------------------------------


def _step_down(adjusted: np.ndarray) -> np.ndarray:
    """Let no p be smaller than one that was smaller before."""
    return np.maximum.accumulate(adjusted)


def _step_up(adjusted: np.ndarray) -> np.ndarray:
    """Let no p be larger than one that was larger before."""
    return np.minimum.accumulate(adjusted[::-1])[::-1]


def _bonferroni(p: np.ndarray) -> np.ndarray:
    return len(p) * p


def _holm(p: np.ndarray) -> np.ndarray:
    return _step_down(np.arange(len(p), 0, -1) * p)


def _holm_sidak(p: np.ndarray) -> np.ndarray:
    # 1 - (1 - p)^k without losing small p to rounding; p = 1 has no logarithm.
    with np.errstate(divide="ignore"):
        return _step_down(-np.expm1(np.arange(len(p), 0, -1) * np.log1p(-p)))


def _hommel(p: np.ndarray) -> np.ndarray:
    """Close the family under Simes' test.

    Of all subsets of k comparisons that hold comparison i, the one with the k - 1 largest others
    has the largest Simes p; i's adjusted p is the largest over k.
    """
    n = len(p)
    adjusted = p.copy()
    for k in range(2, n + 1):
        simes = k * p[n - k :] / np.arange(1, k + 1)  # of the k largest
        tail = simes[1:].min()  # of the k - 1 largest, behind one smaller comparison
        adjusted[n - k :] = np.maximum(adjusted[n - k :], simes.min())
        adjusted[: n - k] = np.maximum(adjusted[: n - k], np.minimum(k * p[: n - k], tail))
    return adjusted


def _bh(p: np.ndarray) -> np.ndarray:
    return _step_up(len(p) * p / np.arange(1, len(p) + 1))


def _by(p: np.ndarray) -> np.ndarray:
    return _bh(p) * (1 / np.arange(1, len(p) + 1)).sum()


_CORRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.copy,
    "bonferroni": _bonferroni,
    "holm": _holm,  # Holm 1979
    "holm-sidak": _holm_sidak,
    "hommel": _hommel,  # Hommel 1988
    "bh": _bh,  # Benjamini and Hochberg 1995: the false discovery rate
    "by": _by,  # Benjamini and Yekutieli 2001: the same under any dependence
}


def adjust(p: np.ndarray, method: Correction = "holm") -> np.ndarray:
    """Adjust the p-values of one family; reject where the result is at most alpha.

    A NaN (asked for, but without a result) stays NaN and counts as a comparison, so that dropping
    it after the data were seen cannot help the others.

    Args:
        p: (m,) in [0, 1] or NaN.
        method: `bh` and `by` hold the false discovery rate, the others the family-wise error.
            `hommel`, `holm-sidak` and `bh` want tests that are independent or positively dependent.

    Returns:
        (m,) in the order given.
    """
    p = np.asarray(p, dtype=np.float64)
    if method not in _CORRECTIONS:
        raise ValueError(f"method must be one of {', '.join(_CORRECTIONS)}, got {method!r}")
    if p.ndim != 1 or (p < 0).any() or (p > 1).any():
        raise ValueError(f"p must be (m,) in [0, 1] or NaN, got {p!r:.80}")
    order = np.argsort(p)  # NaN last, where the ones belong
    adjusted = np.empty_like(p)
    adjusted[order] = _CORRECTIONS[method](np.nan_to_num(p[order], nan=1.0)).clip(max=1.0)
    return np.where(np.isnan(p), np.nan, adjusted)


# --- what can be reached ----------------------------------------------------------------------


def smallest_p(test: Test, n: int, *, n_resamples: int = 10_000) -> float:
    """Return the smallest two-sided p that a test can give.

    Args:
        test: by name.
        n: pairs of the signed-rank and sign-flip tests (non-zero ones), discordant cases of
            McNemar's, repeats of a method in Obuchowski-Rockette and the bootstrap, folds of the
            corrected t, cases of the smaller class in DeLong's.
        n_resamples: of the bootstrap, and of sign flips beyond 16 pairs.

    Returns:
        0 where the statistic is continuous, 1 where there are too few units for the test.
    """
    if test in ("obuchowski-rockette", "delong", "corrected-t"):
        return 0.0 if n >= 2 else 1.0
    if test == "bootstrap":
        return 2 / (n_resamples + 1) if n >= 2 else 1.0
    if test == "mcnemar-mid-p":
        return 2.0**-n
    floor = min(1.0, 2.0 ** (1 - n))
    return max(floor, 1 / (n_resamples + 1)) if test == "sign-flip" and n > 16 else floor


@dataclass(frozen=True)
class Attainability:
    """Whether a star is possible before any data are seen."""

    test: Test
    n: int
    smallest_p: float
    smallest_adjusted: float  # when every comparison of the family is as clear as can be
    alpha: float
    n_needed: int | None  # the smallest n that would do; None: none would

    @property
    def reachable(self) -> bool:
        """Whether the smallest adjusted p is at most alpha."""
        return self.smallest_adjusted <= self.alpha

    @property
    def reason(self) -> str:
        """Why it cannot be reached, in one clause; empty if it can."""
        if self.reachable:
            return ""
        needed = f"{self.n_needed} are needed" if self.n_needed else "no number of them would do"
        return (
            f"{self.test} with n = {self.n} gives an adjusted p of at least "
            f"{self.smallest_adjusted:.3g}; {needed}"
        )


def attainability(
    test: Test,
    n: int,
    *,
    n_comparisons: int = 1,
    alpha: float = 0.05,
    correction: Correction = "holm",
    n_resamples: int = 10_000,
) -> Attainability:
    """Say whether an adjusted p can reach alpha; to be asked before the test.

    Args:
        test: by name.
        n: as for `smallest_p`.
        n_comparisons: of the family.
        alpha: what the adjusted p must not exceed.
        correction: by name.
        n_resamples: as for `smallest_p`.
    """

    def adjusted(n: int) -> float:
        floor = smallest_p(test, n, n_resamples=n_resamples)
        return float(adjust(np.full(n_comparisons, floor), correction)[0])

    enough = next((each for each in range(1, 65) if adjusted(each) <= alpha), None)
    return Attainability(
        test, n, smallest_p(test, n, n_resamples=n_resamples), adjusted(n), alpha, enough
    )
