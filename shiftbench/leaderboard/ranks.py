"""Ranks of scores with intervals: a rank says how many others are clearly better, so that what overlaps ties."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from shiftbench.contracts.result import Score


@dataclass(frozen=True)
class Rank:
    """first: 1 + the number of scores whose interval lies entirely above. last: the ranked, less those entirely below.

    A score that no interval overlaps has first == last.
    """

    first: int
    last: int


def ranks(scores: Sequence[Score | None]) -> list[Rank | None]:
    """The rank of each score among them; None where there is no score or no observation carries it (n = 0).

    Intervals that share an end overlap.
    """
    ranked = [score for score in scores if is_ranked(score)]
    lows, highs = sorted(score.low for score in ranked), sorted(score.high for score in ranked)

    def rank(score: Score) -> Rank:
        above = len(lows) - bisect_right(lows, score.high)
        below = bisect_left(highs, score.low)
        return Rank(1 + above, len(ranked) - below)

    return [rank(score) if is_ranked(score) else None for score in scores]


def is_ranked(score: Score | None) -> TypeGuard[Score]:
    """Whether there is something to rank."""
    return score is not None and score.n > 0
