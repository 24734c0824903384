"""A value beside values that were drawn under a null hypothesis: its rank, and its excess with an interval.

docs/mathematics.md, "Excess over null models".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

FEWEST_DRAWS = 39  # `fewest_draws` of 0.95


@dataclass(frozen=True)
class NullPlace:
    """A value and its place among n draws of the same quantity under a null hypothesis.

    mean: the mean of the draws. low, high: the interval for a further draw that `place_in_null` describes. p: the rank
    p of the value among the draws. n: the number of draws; with n = 0 there is no null distribution: mean, low and high
    are 0, and p is None.
    """

    value: float
    mean: float
    low: float
    high: float
    p: float | None
    n: int


@dataclass(frozen=True)
class Excess:
    """A value less the mean of its null distribution, with its interval and its two-sided p.

    p is None where the null distribution is a single draw.
    """

    value: float
    low: float
    high: float
    p: float | None


def fewest_draws(confidence: float) -> int:
    """The fewest draws whose order statistics make a two-sided interval for a further draw with this confidence.

    confidence: above 0, below 1. The extremes of m draws hold a further draw with the probability (m - 1) / (m + 1), so
    it is the least m for which that is at least the confidence: 19 for 0.9, 39 for 0.95 and 199 for 0.99.
    """
    return math.ceil((1 + confidence) / (1 - confidence) * (1 - 1e-9))  # 0.9 gives 19.000000000000004


def place_in_null(
    value: float,
    draws: ArrayLike,
    confidence: float = 0.95,
    alternative: Literal["greater", "two-sided"] = "greater",
) -> NullPlace:
    """The place of a value among draws [n] of the same quantity under the null hypothesis.

    alternative: for 'greater', p is (1 + the number of draws at least as large) / (1 + n), so with 19 draws p is at
    least 0.05. For 'two-sided', p is twice the smaller of this p and of (1 + the number of draws at most as large) /
    (1 + n), and at most 1. low, high: the draws' quantiles at (1 -+ confidence) / 2, at Weibull's plotting positions
    i / (n + 1). A further draw falls between them with about the probability `confidence`. Where n is below
    fewest_draws(confidence), low and high are the smallest and the largest draw; a further draw falls between these
    with the probability (n - 1) / (n + 1).
    """
    null = np.asarray(draws, dtype=np.float64)
    if null.size == 0:
        return NullPlace(value, 0.0, 0.0, 0.0, None, 0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(null, [tail, 1 - tail], method="weibull")
    above = (1 + int((null >= value).sum())) / (1 + null.size)
    below = (1 + int((null <= value).sum())) / (1 + null.size)
    p = above if alternative == "greater" else min(1.0, 2 * min(above, below))
    return NullPlace(value, float(null.mean()), float(low), float(high), p, null.size)


def excess_over_null(
    value: float, low: float, high: float, n: int, draws: ArrayLike, confidence: float = 0.95
) -> Excess:
    """A value less the mean of m draws under the null, with an interval that holds two sources of error.

    low, high: the value's own interval, for the sampling of its n observations. confidence: the level of that interval
    and of the one returned. draws: [m], at least one. The value's standard error on the side of a bound is
    e = |value - bound| / t, where t is Student's quantile for max(n - 1, 1) degrees of freedom. With the standard
    deviation s of the draws, the variance is e^2 + s^2 (1 + 1 / m), and Student's t for Satterthwaite's degrees of
    freedom gives the bound. p is two-sided, with the standard error on the side that faces the null; where that error
    is 0, p is 1 for an excess of 0, else 0.

    A single draw has no spread: then the interval holds the sampling alone, and p is None.
    """
    null = np.asarray(draws, dtype=np.float64)
    excess, quantile = value - float(null.mean()), float(stdtrit(max(n - 1, 1), (1 + confidence) / 2))
    if null.size == 1:
        return Excess(excess, low - float(null[0]), high - float(null[0]), None)
    spread = float(null.var(ddof=1)) * (1 + 1 / null.size)
    sides = [_Side.of(bound / quantile, n, spread, null.size) for bound in (value - low, high - value)]
    below, above = (side.error * float(stdtrit(side.df, (1 + confidence) / 2)) if side.error else 0.0 for side in sides)
    facing = sides[0] if excess > 0 else sides[1]
    p = 2 * float(stdtr(facing.df, -abs(excess) / facing.error)) if facing.error else float(excess == 0)
    return Excess(excess, excess - below, excess + above, p)


@dataclass(frozen=True)
class _Side:
    """The standard error of an excess on one side, and its degrees of freedom (Satterthwaite 1946)."""

    error: float
    df: float

    @classmethod
    def of(cls, sampling: float, n: int, spread: float, draws: int) -> _Side:
        """sampling: the value's standard error, from n observations. spread: s^2 (1 + 1 / m) for m = `draws`."""
        variance = sampling**2 + spread
        if variance == 0:
            return cls(0.0, 1.0)
        parts = spread**2 / (draws - 1) + sampling**4 / max(n - 1, 1)
        return cls(math.sqrt(variance), max(1.0, variance**2 / parts))
