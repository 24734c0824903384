"""Words that hold over a whole board: the correction by hand, and its family-wise error by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from shiftbench.leaderboard.multiplicity import ClaimTest, corrected, draws_needed
from shiftbench.stats import excess_over_null

BOARDS, TESTS, PROMPTS = 300, 30, 60  # 10 pairs with 3 findings each
SPREAD = 0.05  # standard deviation of a null model's true score
LITTLE, MUCH = 0.002, 0.04  # standard deviations of a score's sampling, which is the same for all models of a pair


def test_a_correction_by_hand() -> None:
    tests = [ClaimTest(1e-9, 99, 0), None, ClaimTest(0.03, 999, 0), ClaimTest(1e-9, 999, 499)]
    # The larger p: 0.01 by rank, 0.03 by the test itself, 0.5 by rank. Holm multiplies them by 3, 2 and 1.
    assert corrected(tests) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.5)]
    assert corrected([]) == []


@pytest.mark.parametrize(("tests", "draws"), [(0, 39), (1, 39), (2, 39), (3, 59), (30, 599), (40, 799)])
def test_so_many_draws_are_needed_and_enough(tests: int, draws: int) -> None:
    assert draws_needed(tests) == draws
    if tests:
        enough, fewer = ([ClaimTest(0.0, m, 0)] * tests for m in (draws, draws - 1))
        assert max(p for p in corrected(enough) if p is not None) <= 0.05
        assert draws == 39 or min(p for p in corrected(fewer) if p is not None) > 0.05


def normal(draw: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return draw.normal(size=size)


def heavy(draw: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Student's t with 3 degrees of freedom, with a standard deviation of 1."""
    return draw.standard_t(3, size=size) / math.sqrt(3)


def skewed(draw: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return draw.exponential(size=size) - 1


def board(
    draw: np.random.Generator, draws: int, null: Callable[..., np.ndarray], sampling: float
) -> tuple[list[ClaimTest], list[bool]]:
    """(the tests of a board on which no claim is true, whether each score lies above the mean of its null models).

    The tuned model of each pair is one more null model. All of them are measured on the same prompts.
    """
    score = SPREAD * null(draw, (TESTS, draws + 1)) + draw.normal(scale=sampling, size=(TESTS, 1))
    half = float(norm.ppf(0.975)) * sampling
    tests, above = [], []
    for value, nulls in zip(score[:, 0], score[:, 1:], strict=True):
        excess = excess_over_null(value, value - half, value + half, PROMPTS, nulls)
        above.append(excess.value > 0)
        beyond = int((nulls >= value).sum() if above[-1] else (nulls <= value).sum())
        assert excess.p is not None
        tests.append(ClaimTest(excess.p, draws, beyond))
    return tests, above


def errors(
    draws: int, null: Callable[..., np.ndarray], boards: int, sampling: float
) -> tuple[float, float, float, float]:
    """Shares of boards with a false word: uncorrected by rank; corrected: any, supported, opposite."""
    draw = np.random.default_rng(draws)
    found = np.zeros(4)
    for _ in range(boards):
        tests, above = board(draw, draws, null, sampling)
        said = [p is not None and p <= 0.05 for p in corrected(tests)]
        up = [one for one, side in zip(said, above, strict=True) if side]
        down = [one for one, side in zip(said, above, strict=True) if not side]
        by_rank = any(test.rank_p <= 0.05 and side for test, side in zip(tests, above, strict=True))
        found += [by_rank, any(said), any(up), any(down)]
    return tuple(found / boards)  # type: ignore[return-value]


def most(share: float, boards: int) -> float:
    """Three standard errors above a share of so many boards."""
    return share + 3 * math.sqrt(share * (1 - share) / boards)


@pytest.mark.parametrize(("draws", "sampling"), [(19, LITTLE), (599, LITTLE), (599, MUCH)])
def test_a_board_of_null_pairs_has_a_false_word_in_at_most_one_of_twenty(draws: int, sampling: float) -> None:
    """10 pairs with 3 findings at 19 draws said "more than all null models" of some pair on 79% of such boards."""
    uncorrected, any_word, _, _ = errors(draws, normal, BOARDS, sampling)
    assert abs(uncorrected - 0.79) < 0.075  # 1 - 0.95 ** 30
    assert any_word <= most(0.05, BOARDS)


@pytest.mark.parametrize("null", [heavy, skewed])
def test_each_word_keeps_its_error_whatever_the_null_scores_look_like(null: Callable[..., np.ndarray]) -> None:
    _, _, supported, opposite = errors(599, null, 200, LITTLE)
    assert max(supported, opposite) <= most(0.05, 200)


def test_a_true_shift_is_said_with_enough_draws_and_not_with_fewer() -> None:
    draw = np.random.default_rng(0)
    found = {}
    for draws in (19, 599):
        tests, _ = board(draw, draws, normal, MUCH)
        tests[0] = ClaimTest(1e-6, draws, 0)
        found[draws] = corrected(tests)[0]
    assert found[19] == 1.0 and found[599] == pytest.approx(0.05)
