"""Ranks of scores with intervals: a rank counts the scores that are clearly better, so overlapping scores can tie."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from shiftbench.contracts.result import Score


@dataclass(frozen=True)
class Rank:
    """The range of ranks that a score may have.

    first: 1 + the number of ranked scores whose interval lies entirely above this score's interval. last: the number of
    ranked scores minus the number of those whose interval lies entirely below it. A score whose interval overlaps no
    other one has first == last.
    """

    first: int
    last: int


def ranks(scores: Sequence[Score | None]) -> list[Rank | None]:
    """The rank of each score among the others, in the order of `scores`.

    It is None for a missing score and for one without observations (n = 0); these count in no other rank. Intervals
    that share only an end overlap.
    """
    ranked = [score for score in scores if is_ranked(score)]
    lows, highs = sorted(score.low for score in ranked), sorted(score.high for score in ranked)

    def rank(score: Score) -> Rank:
        above = len(lows) - bisect_right(lows, score.high)
        below = bisect_left(highs, score.low)
        return Rank(1 + above, len(ranked) - below)

    return [rank(score) if is_ranked(score) else None for score in scores]


def is_ranked(score: Score | None) -> TypeGuard[Score]:
    """Whether there is a score and it has observations."""
    return score is not None and score.n > 0
