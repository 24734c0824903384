"""A value's rank among values that were drawn under a null hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class NullPlace:
    """A value and its null distribution.

    mean: of the draws under the null. low, high: interval of a further draw. p: rank p of the value. n: number of
    draws; with n = 0 there is no null distribution, and p is None.
    """

    value: float
    mean: float
    low: float
    high: float
    p: float | None
    n: int


def place_in_null(
    value: float,
    draws: ArrayLike,
    confidence: float = 0.95,
    alternative: Literal["greater", "two-sided"] = "greater",
) -> NullPlace:
    """Rank of a value among draws [n] of the same quantity under the null hypothesis.

    p is (1 + number of draws at least as large) / (1 + n); two-sided it is twice the smaller of both tails, at most 1.
    With 19 draws p is 0.05 at least.
    low, high: order statistics at (n + 1) q (Weibull's plotting positions). A further draw falls between them with the
    probability `confidence`. Where n is too small for that they are the extremes, with probability (n - 1) / (n + 1).
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
