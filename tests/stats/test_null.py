"""A value's rank among null draws: p and interval are valid with 19 draws already."""

import numpy as np
import pytest
from scipy.stats import binomtest

from shiftbench.stats import place_in_null

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
