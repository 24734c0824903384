"""A value's rank among values that were drawn under a null hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class NullPlace:
    """A value and its place among n draws of the same quantity under a null hypothesis.

    mean: the mean of the draws. low, high: bounds between which a further draw would fall. p: the rank p of the value
    among the draws. n: the number of draws; with n = 0 there is no null distribution: mean, low and high are 0, and p
    is None.
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
    """The place of a value among draws [n] of the same quantity under the null hypothesis.

    alternative: for 'greater', p is (1 + the number of draws at least as large) / (1 + n), so with 19 draws p is at
    least 0.05. For 'two-sided', p is twice the smaller of this p and of (1 + the number of draws at most as large) /
    (1 + n), and at most 1. low, high: the draws' quantiles at (1 -+ confidence) / 2, at Weibull's plotting positions
    i / (n + 1). A further draw falls between them with the probability `confidence`. Where n is too small for that, low
    and high are the smallest and the largest draw, between which a further draw falls with the probability
    (n - 1) / (n + 1).
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
