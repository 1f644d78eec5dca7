"""Tails and quantiles of the distributions that tests need.

scipy is imported when a tail is first asked for, so that reading a table costs none of it.
"""

from __future__ import annotations

import math

import numpy as np


def two_sided_normal(z: float) -> float:
    """Return P(|Z| >= |z|)."""
    return math.erfc(abs(z) / math.sqrt(2))


def upper_normal(z: float) -> float:
    """Return P(Z >= z)."""
    return math.erfc(z / math.sqrt(2)) / 2


def normal_quantile(p: float) -> float:
    """Return z with P(Z <= z) = p."""
    from scipy.special import ndtri

    return float(ndtri(p))


def two_sided_t(t: float, df: float) -> float:
    """Return P(|T| >= |t|) for any positive degrees of freedom, infinity included."""
    from scipy.special import stdtr

    return two_sided_normal(t) if math.isinf(df) else float(2 * stdtr(df, -abs(t)))


def t_quantile(p: float, df: float) -> float:
    """Return t with P(T <= t) = p."""
    from scipy.special import stdtrit

    return normal_quantile(p) if math.isinf(df) else float(stdtrit(df, p))


def upper_f(f: float, df1: float, df2: float) -> float:
    """Return P(F >= f)."""
    from scipy.special import fdtrc

    return 0.0 if math.isinf(f) else float(fdtrc(df1, df2, f))


def upper_chi2(chi2: float, df: float) -> float:
    """Return P(X >= chi2)."""
    from scipy.special import chdtrc

    return float(chdtrc(df, chi2))


def upper_studentized_range(q: np.ndarray, n_groups: int) -> np.ndarray:
    """Return P(Q >= q) of the range of so many normal variables with known variance."""
    from scipy.stats import studentized_range

    return np.asarray(studentized_range.sf(q, n_groups, np.inf))


def studentized_range_quantile(p: float, n_groups: int) -> float:
    """Return q with P(Q <= q) = p; as above."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(p, n_groups, np.inf))


def clopper_pearson_upper(n_hits: int, n: int, *, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper limit of a share (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    return 1.0 if n_hits == n else float(betaincinv(n_hits + 1, n - n_hits, confidence))
