"""The sign-flip test: its size under the null hypothesis, its power, and exact against random assignments."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from shiftbench.stats import permutation, sign_flip

DRAWS = 199
DATA_SETS = 1000


def rejections(generator, size, shift, alternative="two-sided"):
    """How many of DATA_SETS heavy-tailed data sets are rejected at 5%; a t-test would not be valid for them."""
    data = shift + generator.standard_t(3, (DATA_SETS, size))
    return sum(sign_flip(row, alternative, seed, DRAWS).p <= 0.05 for seed, row in enumerate(data))


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
@pytest.mark.parametrize("size", [8, 40])
def test_under_the_null_it_rejects_as_often_as_stated(size, alternative):
    """8 differences use the exact test, 40 random draws. p has discrete steps, so the rate can be a little below 5%."""
    found = rejections(np.random.default_rng(size), size, 0.0, alternative)
    finest = (
        np.floor(0.05 * 2**size / (1 + (alternative == "two-sided"))) * (1 + (alternative == "two-sided")) / 2**size
    )
    truth = finest if size <= permutation.MOST_EXACT else 0.05
    assert binomtest(found, DATA_SETS, truth).pvalue > 0.001, found


def test_a_planted_shift_is_found_on_its_side_only():
    generator = np.random.default_rng(1)
    assert rejections(generator, 40, 1.0, "greater") > 0.9 * DATA_SETS
    assert rejections(generator, 40, 1.0, "less") == 0


def test_the_exact_p_is_that_of_all_sign_assignments():
    differences = np.array([0.5, -0.25, 1.0, 2.0, -0.75])
    sums = [float(np.dot(signs, differences)) for signs in itertools.product([1, -1], repeat=5)]
    found = sign_flip(differences, "greater", seed=0)
    assert (found.p, found.n, found.draws) == (sum(s >= 2.5 for s in sums) / 32, 5, 0)
    assert sign_flip(differences, "two-sided", seed=0).p == sum(abs(s) >= 2.5 for s in sums) / 32
    assert sign_flip([1.0] * 10, "greater", seed=0).p == 2**-10


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_drawn_and_exact_agree(alternative, monkeypatch):
    data = np.random.default_rng(2).normal(0.3, 1.0, (20, 14))
    exact = [sign_flip(row, alternative, 0).p for row in data]
    monkeypatch.setattr(permutation, "MOST_EXACT", 0)
    drawn = [sign_flip(row, alternative, 0, draws=20_000) for row in data]
    error = np.sqrt(np.multiply(exact, np.subtract(1, exact)) / 20_000)
    assert (np.abs(np.subtract([each.p for each in drawn], exact)) < 4 * error + 1e-4).all()
    assert {each.draws for each in drawn} == {20_000}


def test_sums_that_are_equal_count_as_such_whatever_the_order_of_addition(monkeypatch):
    differences = np.array([0.1, 0.2, 0.3, -0.1, -0.2, 0.7, 0.1])
    tenths = np.array([1, 2, 3, -1, -2, 7, 1])
    sums = [int(np.dot(signs, tenths)) for signs in itertools.product([1, -1], repeat=7)]
    assert sign_flip(differences, "greater", 0).p == sum(s >= 11 for s in sums) / 128


def test_blocks_of_draws_change_nothing(monkeypatch):
    data = np.random.default_rng(3).normal(0.2, 1.0, 50)
    whole = sign_flip(data, "two-sided", 7)
    assert whole == sign_flip(data, "two-sided", 7) and whole.p != sign_flip(data, "two-sided", 8).p
    monkeypatch.setattr(permutation, "_BLOCK", 50 * 100)
    assert sign_flip(data, "two-sided", 7) == whole


def test_it_is_close_to_the_t_test_where_that_is_valid():
    data = np.random.default_rng(4).normal(0.15, 1.0, 200)
    assert sign_flip(data, "greater", 0).p == pytest.approx(
        ttest_1samp(data, 0, alternative="greater").pvalue, abs=0.01
    )


def test_zeros_do_not_count_and_without_differences_there_is_no_p():
    some = [0.5, -0.25, 1.0]
    assert sign_flip([0.0, *some, 0.0], "greater", 0).p == sign_flip(some, "greater", 0).p
    assert sign_flip([0.0, *some, 0.0], "greater", 0).n == 5
    assert sign_flip([0.0, 0.0], "greater", 0).p is None and sign_flip([], "greater", 0).p is None
