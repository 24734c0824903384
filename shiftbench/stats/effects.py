"""Effect sizes: how large a difference is, in units of a standard deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import chi2

# Number of nodes of the numerical integral over S in _noncentrality. With 500 the bounds agree to 1e-5 with those by
# scipy's noncentral t distribution, wherever the latter are not NaN.
_NODES = 500


@dataclass(frozen=True)
class Effect:
    """An effect size with its confidence interval.

    d: Cohen's d, a mean difference divided by a standard deviation (ddof 1): that of the paired differences, or the
    pooled one of two samples. g: Hedges' g, which is d with its small-sample bias removed (Hedges 1981). low, high:
    confidence bounds of the population's effect size. n: the number of observations.
    """

    d: float
    g: float
    low: float
    high: float
    n: int


def paired_effect(differences: ArrayLike, confidence: float = 0.95) -> Effect | None:
    """The effect size of paired differences [n]: their mean divided by their standard deviation.

    The interval has the level `confidence`; it is by the noncentral t distribution, and exact where the differences are
    normally distributed. None where n < 2 or all differences are equal: their standard deviation is then undefined or
    0.
    """
    x = np.asarray(differences, dtype=np.float64)
    if x.size < 2 or np.ptp(x) == 0:
        return None
    d = float(x.mean() / x.std(ddof=1))
    root, df = math.sqrt(x.size), x.size - 1
    tail = (1 - confidence) / 2
    low, high = (_noncentrality(d * root, df, share) / root for share in (1 - tail, tail))
    return Effect(d, d * _bias_factor(df), low, high, x.size)


def independent_effect(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> Effect | None:
    """The effect size of two independent samples: (mean(first) - mean(second)) / pooled standard deviation.

    The interval has the level `confidence`; it is by the noncentral t distribution, and exact where both samples are
    normal with the same variance. n counts the values of both samples. None where a sample is empty, where both
    together have fewer than three values, or where both samples are constant.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    df = a.size + b.size - 2
    if a.size == 0 or b.size == 0 or df < 1 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return None
    pooled = math.sqrt((((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / df)
    d = float((a.mean() - b.mean()) / pooled)
    root = math.sqrt(a.size * b.size / (a.size + b.size))
    tail = (1 - confidence) / 2
    low, high = (_noncentrality(d * root, df, share) / root for share in (1 - tail, tail))
    return Effect(d, d * _bias_factor(df), low, high, a.size + b.size)


def _bias_factor(df: int) -> float:
    """The factor by which d is multiplied to remove its bias (Hedges 1981), for df degrees of freedom.

    Gamma(df / 2) / (sqrt(df / 2) Gamma((df - 1) / 2)). It is 0 for df = 1, the formula's limit.
    """
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 0.0


def _noncentrality(t: float, df: int, share: float) -> float:
    """The noncentrality c for which a noncentral t variable T with df degrees of freedom has P(T <= t) = share.

    T = (Z + c) / S, where Z is standard normal and S^2 = chi^2 / df. So P(T <= t) is the mean of Phi(t S - c) over S,
    where Phi is the normal distribution function. The mean is computed at Gauss-Legendre nodes of the distribution of
    S, because scipy's nct.cdf is NaN far from the centre. c is found by Brent's method, to 1e-9.
    """
    node_N, weight_N = _nodes(df)
    scaled = t * node_N

    def excess(noncentrality: float) -> float:
        return float(weight_N @ ndtr(scaled - noncentrality) - share)

    return float(brentq(excess, scaled.min() - 10, scaled.max() + 10, xtol=1e-9))


@cache
def _nodes(df: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(node_N, weight_N): the values of S = sqrt(chi^2 / df) at which _noncentrality evaluates a function of S, and
    their weights, which sum to 1. The weighted sum approximates the function's mean over S.
    """
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    return np.sqrt(chi2.ppf((node + 1) / 2, df) / df), weight / 2
