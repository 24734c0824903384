"""Effect sizes: how large a paired difference is, in units of its own standard deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import nct


@dataclass(frozen=True)
class Effect:
    """d: Cohen's d of paired differences, mean / std (ddof 1). g: d without its small-sample bias (Hedges 1981).

    low, high: confidence bounds of the population's effect. n: differences.
    """

    d: float
    g: float
    low: float
    high: float
    n: int


def paired_effect(differences: ArrayLike, confidence: float = 0.95) -> Effect | None:
    """Effect size of paired differences [n], with the noncentral t interval (exact where they are normal).

    None where n < 2 or all differences are equal: there is no unit to measure in.
    """
    x = np.asarray(differences, dtype=np.float64)
    if x.size < 2 or np.ptp(x) == 0:
        return None
    d = float(x.mean() / x.std(ddof=1))
    root, df = math.sqrt(x.size), x.size - 1
    tail = (1 - confidence) / 2
    low, high = (_noncentrality(d * root, df, share) / root for share in (1 - tail, tail))
    return Effect(d, d * _unbiased(df), low, high, x.size)


def _unbiased(df: int) -> float:
    """What takes the bias out of d: Gamma(df / 2) / (sqrt(df / 2) Gamma((df - 1) / 2)) (Hedges 1981)."""
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 0.0


def _noncentrality(t: float, df: int, share: float) -> float:
    """The noncentrality under which a t as small as this one has probability `share`."""
    reach = 8 + abs(t) * (1 + 8 / math.sqrt(df))
    return float(brentq(lambda centre: nct.cdf(t, df, centre) - share, t - reach, t + reach, xtol=1e-9))
