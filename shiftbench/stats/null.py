"""Where a value stands among values drawn under the null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class NullPlace:
    """A value beside its null distribution.

    mean, low, high: of the null draws. p: rank p of the value. n: draws; with n = 0 there is no null, and p is None.
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
    """The value's place among draws [n] of the same number under the null.

    p: (1 + draws at least as large) / (1 + n); two-sided: twice the smaller of both tails, at most 1. 19 draws give no
    p below 0.05. low, high: order statistics at (n + 1) q, between which a further draw falls with the probability
    `confidence` (Weibull's plotting positions); where n is too small for that, the extremes, with (n - 1) / (n + 1).
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
