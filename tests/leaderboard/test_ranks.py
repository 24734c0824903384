"""Ranks: what is clearly above counts, what overlaps ties."""

from __future__ import annotations

import random

import pytest

from shiftbench.contracts.result import Score
from shiftbench.leaderboard import Rank, ranks


def score(low: float, high: float, n: int = 9) -> Score:
    return Score("f", "s", (low + high) / 2, low, high, None, n)


@pytest.mark.parametrize(
    ("intervals", "expected"),
    [
        ([(5, 6), (3, 4), (1, 2)], [(1, 1), (2, 2), (3, 3)]),
        ([(1, 9), (2, 8), (3, 7)], [(1, 3), (1, 3), (1, 3)]),
        ([(3, 4), (3, 4), (1, 2)], [(1, 2), (1, 2), (3, 3)]),
        # A and B overlap, and C is clearly above B only: so B's rank says so and A's does not.
        ([(3, 6), (1, 4), (5, 7)], [(1, 3), (2, 3), (1, 2)]),
        ([(2, 3), (1, 2)], [(1, 2), (1, 2)]),  # a shared end overlaps
        ([(0, 0), (0, 0)], [(1, 2), (1, 2)]),
        ([(-2, -1), (1, 2)], [(2, 2), (1, 1)]),
        ([(1, 2)], [(1, 1)]),
        ([], []),
    ],
)
def test_ranks_by_hand(intervals: list[tuple[float, float]], expected: list[tuple[int, int]]) -> None:
    assert ranks([score(*ends) for ends in intervals]) == [Rank(*both) for both in expected]


def test_what_is_not_scored_has_no_rank_and_takes_none() -> None:
    assert ranks([None, score(1, 2), score(5, 6, n=0), score(3, 4)]) == [None, Rank(2, 2), None, Rank(1, 1)]


def test_the_definition_on_random_intervals() -> None:
    draw = random.Random(0)
    for _ in range(200):
        drawn = [sorted((draw.randint(0, 9), draw.randint(0, 9))) for _ in range(draw.randint(1, 12))]
        scores = [score(*ends) for ends in drawn]
        expected = [
            Rank(1 + sum(o.low > s.high for o in scores), len(scores) - sum(o.high < s.low for o in scores))
            for s in scores
        ]
        assert ranks(scores) == expected
