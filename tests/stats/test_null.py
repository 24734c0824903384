"""A value among null draws: its rank p is valid with 19 draws already, its excess over them with 39."""

import numpy as np
import pytest
from scipy.stats import binomtest

from shiftbench.stats import excess_over_null, fewest_draws, place_in_null
from shiftbench.stats.null import FEWEST_DRAWS

DATA_SETS = 2000


@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
@pytest.mark.parametrize("draws", [19, 99])
def test_a_value_from_the_null_is_rejected_in_5_percent(draws, alternative):
    """With 19 draws p is a multiple of 1/20, so a two-sided p is 0.1 at least."""
    data = np.random.default_rng(draws).exponential(size=(DATA_SETS, draws + 1))
    found = sum(place_in_null(row[0], row[1:], alternative=alternative).p <= 0.05 for row in data)
    expected = 0.0 if (draws, alternative) == (19, "two-sided") else (0.05 if alternative == "greater" else 0.04)
    assert binomtest(found, DATA_SETS, expected).pvalue > 0.001 if expected else found == 0, found


@pytest.mark.parametrize(("draws", "covered"), [(19, 0.9), (39, 0.95), (199, 0.95)])
def test_the_interval_contains_a_further_draw_as_often_as_stated(draws, covered):
    data = np.random.default_rng(draws).normal(size=(DATA_SETS, draws + 1))
    places = [place_in_null(row[0], row[1:]) for row in data]
    found = sum(each.low <= each.value <= each.high for each in places)
    assert binomtest(found, DATA_SETS, covered).pvalue > 0.001, found


@pytest.mark.parametrize(
    ("confidence", "draws"), [(0.5, 3), (0.9, 19), (0.95, FEWEST_DRAWS), (0.99, 199), (0.999, 1999)]
)
def test_the_fewest_draws_are_those_whose_interval_has_the_confidence(confidence, draws):
    assert fewest_draws(confidence) == draws
    assert (draws - 1) / (draws + 1) == pytest.approx(confidence) and (draws - 2) / draws < confidence
    null = np.arange(draws, dtype=float)
    place, one_fewer = place_in_null(0.0, null, confidence), place_in_null(0.0, null[1:], confidence)
    assert (place.low, place.high) == pytest.approx((0, draws - 1))
    assert (one_fewer.low, one_fewer.high) == (1, draws - 1)


def test_a_value_outside_its_null_has_a_small_p():
    place = place_in_null(0.5, np.linspace(-0.1, 0.1, 19))
    assert (place.p, place.n, place.mean) == (0.05, 19, pytest.approx(0.0))
    assert (place.low, place.high) == pytest.approx((-0.1, 0.1))
    assert place_in_null(-0.5, np.linspace(-0.1, 0.1, 19)).p == 1.0
    assert place_in_null(-0.5, np.linspace(-0.1, 0.1, 19), alternative="two-sided").p == 0.1


def test_ties_count_against_the_value_and_no_draws_give_no_p():
    assert place_in_null(0.0, np.zeros(19)).p == 1.0
    place = place_in_null(0.3, [])
    assert (place.p, place.n) == (None, 0)


def under_the_null(draws, sampling, observations=60, seed=0):
    """DATA_SETS of (value, low, high, null draws), all with mean 0; null draws have the standard deviation 1.

    The value differs from 0 as a null draw does, and by the sampling of its observations, whose standard error is
    `sampling`. low, high: its 95% interval for the sampling alone.
    """
    random = np.random.default_rng([draws, seed])
    error = sampling * np.sqrt(random.chisquare(observations - 1, DATA_SETS) / (observations - 1))
    value = random.normal(size=DATA_SETS) + sampling * random.normal(size=DATA_SETS)
    return zip(value, value - 1.96 * error, value + 1.96 * error, random.normal(size=(DATA_SETS, draws)), strict=True)


def share_excluding_0(intervals):
    return sum(low > 0 or high < 0 for low, high in intervals)


@pytest.mark.parametrize("sampling", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("draws", [FEWEST_DRAWS, 99, 199])
def test_an_excess_excludes_0_under_the_null_in_5_percent(draws, sampling):
    found = [excess_over_null(*one[:3], 60, one[3]) for one in under_the_null(draws, sampling)]
    excluded = share_excluding_0((excess.low, excess.high) for excess in found)
    assert binomtest(excluded, DATA_SETS, 0.05).pvalue > 0.001, excluded / DATA_SETS
    assert sum(excess.p <= 0.05 for excess in found) == pytest.approx(excluded, abs=0.005 * DATA_SETS)


@pytest.mark.parametrize(("draws", "excluded"), [(3, 0.49), (9, 0.20), (19, 0.10), (39, 0.05), (99, 0.05)])
def test_the_range_of_the_null_models_excludes_0_too_often(draws, excluded):
    """What `*_over_null` had as its interval before issue 19: the value less the range or quantiles of the draws."""
    places = [place_in_null(value, null) for value, _, _, null in under_the_null(draws, 0.0)]
    found = share_excluding_0((place.value - place.high, place.value - place.low) for place in places)
    assert found / DATA_SETS == pytest.approx(excluded, abs=0.03)


def test_the_range_leaves_out_the_sampling_and_the_excess_does_not():
    data = list(under_the_null(99, 1.0))
    ranges = (
        (value - place.high, value - place.low) for value, *_, null in data for place in [place_in_null(value, null)]
    )
    assert share_excluding_0(ranges) / DATA_SETS > 0.1
    excesses = [excess_over_null(value, low, high, 60, null) for value, low, high, null in data]
    assert share_excluding_0((excess.low, excess.high) for excess in excesses) / DATA_SETS < 0.07


def test_one_draw_has_no_spread():
    excess = excess_over_null(0.5, 0.4, 0.7, 60, [0.2])
    assert (excess.value, excess.low, excess.high) == pytest.approx((0.3, 0.2, 0.5)) and excess.p is None
