"""The error that an estimate has from a random draw that it is computed with, and intervals that hold this error too.

docs/mathematics.md, "Concept rotation".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from shiftbench.stats.bootstrap import Interval


def error_from_parts(estimates: ArrayLike) -> float:
    """The standard error of an estimate from a random draw, by batch means: the spread of estimates from its parts.

    estimates [G]: for each of G equal parts of the draw, the estimate from this part alone; at least two. Their
    standard deviation over the square root of G is the error of the estimate from the whole draw, whose variance is
    inverse to the size of the draw. A jackknife would be wrong here: shares of a few concepts are steps, and a
    jackknife enlarges a step by the number of parts.
    """
    parts = np.asarray(estimates, dtype=np.float64)
    return float(parts.std(ddof=1)) / math.sqrt(parts.size)


def with_error(interval: Interval, error: float, confidence: float) -> Interval:
    """An interval with one more, independent and normal, source of error; error: its standard error.

    Each half of the interval becomes the square root of the sum of its square and that of the error's half-width, which
    is the error times the normal quantile for a two-sided interval of the level `confidence`.
    """
    half = float(norm.ppf((1 + confidence) / 2)) * error
    below, above = interval.value - interval.low, interval.high - interval.value
    return Interval(interval.value, interval.value - math.hypot(below, half), interval.value + math.hypot(above, half))
