"""The statistic that tells a slowdown from noise: the median of paired ratios, with a confidence interval.

A round times the yardstick and then the hot spot. If the speed of the machine drifts, both are slower, and the ratio
stays. A few rounds that another process disturbs hardly move the median. Of the noise the interval assumes only that
rounds are independent: the number of rounds below the true median is then binomial. Rounds are added while the limit is
inside the interval, up to MOST_ROUNDS.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scipy.stats import binom

CONFIDENCE = 0.98
BLOCK = 7  # rounds added at a time: the smallest number that has an interval of CONFIDENCE
MOST_ROUNDS = 42


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios with its confidence interval; rounds: their number.

    low and high are 0 and infinity where there are too few rounds for an interval.
    """

    value: float
    low: float
    high: float
    rounds: int

    def decided(self, limit: float) -> bool:
        """Whether the limit is outside of the interval, so that the median is clearly above or clearly below it."""
        return not self.low <= limit <= self.high


def median_ratio(rounds: Sequence[float]) -> Ratio:
    """The median of the rounds' ratios with its interval. rounds: at least one ratio."""
    ordered = sorted(rounds)
    k = interval_index(len(ordered))
    if k < 0:
        return Ratio(statistics.median(ordered), 0.0, float("inf"), len(ordered))
    return Ratio(statistics.median(ordered), ordered[k], ordered[-1 - k], len(ordered))


@cache
def interval_index(rounds: int) -> int:
    """The largest k such that [x_k, x_(n-1-k)] is an interval of at least CONFIDENCE; -1 where there is none.

    x: the ratios of n rounds in ascending order, counted from 0. The true median is outside of this interval with
    probability 2 P(binomial(n, 1/2) <= k).
    """
    k = -1
    while 2 * float(binom.cdf(k + 1, rounds, 0.5)) <= 1 - CONFIDENCE:
        k += 1
    return k
