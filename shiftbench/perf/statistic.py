"""When is a slowdown one? The median of paired ratios, with an interval that asks for no law of the noise.

A round times yardstick and hot spot next to each other, so that a machine that drifts slows both, and the rounds that
something else broke into leave the median alone. Its interval holds by order statistics alone: the number of rounds
below the median is binomial. Rounds are added while the interval holds the limit.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from scipy.stats import binom

CONFIDENCE = 0.98
BLOCK = 7  # rounds between two looks: the fewest that give an interval of CONFIDENCE
MOST = 42  # rounds


@dataclass(frozen=True)
class Ratio:
    """A median over rounds with its interval. low, high: infinitely far where the rounds are too few for one."""

    value: float
    low: float
    high: float
    rounds: int

    def decided(self, limit: float) -> bool:
        """Whether the interval is on one side of the limit."""
        return not self.low <= limit <= self.high


def ratio(rounds: Sequence[float]) -> Ratio:
    """Of the rounds' ratios, at least one."""
    ordered = sorted(rounds)
    inside = rank(len(ordered))
    if inside < 0:
        return Ratio(statistics.median(ordered), 0.0, float("inf"), len(ordered))
    return Ratio(statistics.median(ordered), ordered[inside], ordered[-1 - inside], len(ordered))


@cache
def rank(rounds: int) -> int:
    """How many of the lowest, and of the highest, rounds an interval of CONFIDENCE leaves out; -1: there is none.

    The true median lies outside of [x_(k), x_(n-1-k)], counted from 0, with probability 2 P(binomial(n, 1/2) <= k).
    """
    left_out = -1
    while 2 * float(binom.cdf(left_out + 1, rounds, 0.5)) <= 1 - CONFIDENCE:
        left_out += 1
    return left_out
