"""The statistic of `perf check` on simulated noise: it finds slowdowns and passes disturbances."""

import numpy as np
import pytest

from shiftbench.perf.check import LIMIT, PROCESSES
from shiftbench.perf.statistic import BLOCK, CONFIDENCE, MOST_ROUNDS, interval_index, median_ratio


def sequential(draw, limit):
    """Add rounds until the interval is on one side of the limit, as measure.timed does."""
    rounds = []
    while True:
        rounds += [draw() for _ in range(BLOCK)]
        found = median_ratio(rounds)
        if found.decided(limit) or len(rounds) >= MOST_ROUNDS:
            return found


def noisy(draws, slowdown):
    """A paired ratio with 3% noise. In every fifth round on average one of the two sides is disturbed."""
    value = slowdown * np.exp(draws.normal(0, 0.03))
    if draws.random() < 0.2:
        value *= np.exp(draws.choice([-1, 1]) * draws.exponential(0.5))
    return float(value)


@pytest.mark.parametrize(("slowdown", "fails"), [(1.0, False), (1.15, True), (1.2, True)])
def test_noise_passes_and_slowdowns_fail(slowdown, fails):
    draws = np.random.default_rng(0)
    # A check fails only where every process finds the slowdown.
    found = [
        all(sequential(lambda: noisy(draws, slowdown), LIMIT).value > LIMIT for _ in range(1 + PROCESSES))
        for _ in range(300)
    ]
    assert found.count(fails) >= 297


def test_a_shift_of_four_percent_in_one_process_changes_no_verdict():
    draws = np.random.default_rng(1)
    for shift in (0.96, 1.04):
        assert sequential(lambda shift=shift: noisy(draws, shift), LIMIT).value < LIMIT
        assert sequential(lambda shift=shift: noisy(draws, 1.2 * shift), LIMIT).value > LIMIT


def test_the_interval_covers_the_median_as_often_as_it_claims():
    draws = np.random.default_rng(2)
    for rounds in (BLOCK, 2 * BLOCK, 20):
        samples = [median_ratio(draws.exponential(1.0, rounds).tolist()) for _ in range(4000)]
        covered = np.mean([found.low <= np.log(2) <= found.high for found in samples])
        assert covered >= CONFIDENCE - 0.006


def test_a_block_is_the_fewest_rounds_with_an_interval():
    assert interval_index(BLOCK) == 0 and interval_index(BLOCK - 1) == -1
    too_few = median_ratio([1.0] * (BLOCK - 1))
    assert (too_few.low, too_few.high) == (0.0, float("inf")) and not too_few.decided(LIMIT)


def test_more_rounds_are_taken_near_the_limit():
    draws = np.random.default_rng(3)
    near = [sequential(lambda: noisy(draws, LIMIT), LIMIT).rounds for _ in range(50)]
    far = [sequential(lambda: noisy(draws, 1.0), LIMIT).rounds for _ in range(50)]
    assert np.mean(far) < 2 * BLOCK < np.mean(near)
