"""Effect sizes have no bias, and their intervals cover the planted effect as often as stated."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, nct

from shiftbench.stats import independent_effect, paired_effect


@pytest.mark.parametrize(("effect", "size"), [(0.0, 12), (0.8, 12), (0.3, 60)])
def test_intervals_cover_the_planted_effect(effect, size):
    data = np.random.default_rng(size).normal(2 * effect, 2.0, (1000, size))
    found = [paired_effect(row, 0.9) for row in data]
    covered = sum(each.low <= effect <= each.high for each in found)
    assert binomtest(covered, 1000, 0.9).pvalue > 0.001, covered


@pytest.mark.long
def test_hedges_g_has_no_bias_where_cohens_d_has():
    data = np.random.default_rng(0).normal(0.8, 1.0, (4000, 6))
    found = [paired_effect(row) for row in data]
    d, g = np.array([each.d for each in found]), np.array([each.g for each in found])
    error = g.std() / math.sqrt(len(g))
    assert abs(g.mean() - 0.8) < 3 * error < d.mean() - 0.8


def test_it_is_the_mean_in_units_of_the_deviation_and_its_bounds_are_those_of_the_noncentral_t():
    found = paired_effect([1.0, 2.0, 3.0, 6.0], 0.95)
    assert (found.d, found.n) == (pytest.approx(3 / math.sqrt(14 / 3)), 4)
    assert found.g / found.d == pytest.approx(math.gamma(1.5) / (math.sqrt(1.5) * math.gamma(1)))
    assert nct.cdf(2 * found.d, 3, 2 * found.low) == pytest.approx(0.975, abs=1e-5)
    assert nct.cdf(2 * found.d, 3, 2 * found.high) == pytest.approx(0.025, abs=1e-5)
    flipped = paired_effect([-1.0, -2.0, -3.0, -6.0], 0.95)
    assert (flipped.d, flipped.low, flipped.high) == pytest.approx((-found.d, -found.high, -found.low), abs=1e-6)


@pytest.mark.parametrize("values", [np.array([1.0, 1.0 + 1e-3]), 5 + np.random.default_rng(1).normal(0, 0.05, 300)])
def test_effects_that_are_very_large_still_have_bounds(values):
    found = paired_effect(values)
    assert found.low < found.d < found.high and math.isfinite(found.high)


def test_without_variation_there_is_no_effect_size():
    assert paired_effect([]) is None and paired_effect([1.0]) is None and paired_effect([2.0, 2.0]) is None


@pytest.mark.parametrize(("effect", "sizes"), [(0.0, (6, 14)), (0.8, (12, 12))])
def test_intervals_of_independent_samples_cover_the_planted_effect(effect, sizes):
    draws = np.random.default_rng(sizes[1])
    found = [
        independent_effect(draws.normal(5 + 2 * effect, 2.0, sizes[0]), draws.normal(5, 2.0, sizes[1]), 0.9)
        for _ in range(1000)
    ]
    covered = sum(each.low <= effect <= each.high for each in found)
    assert binomtest(covered, 1000, 0.9).pvalue > 0.001, covered


def test_an_independent_effect_is_in_units_of_the_pooled_deviation():
    found = independent_effect([1.0, 3.0, 5.0], [1.0, 1.0, 2.0, 4.0])
    assert (found.d, found.n) == (pytest.approx(1 / math.sqrt((8 + 6) / 5)), 7)
    assert independent_effect([1.0], [2.0]) is independent_effect([], [1.0, 2.0]) is None
    assert independent_effect([1.0, 1.0], [2.0, 2.0]) is None
