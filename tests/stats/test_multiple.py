"""Holm's correction against an example by hand, and its family-wise error rate."""

import numpy as np
import pytest
from scipy.stats import binomtest

from shiftbench.stats import holm


def test_an_example_by_hand():
    """Sorted: 0.005, 0.01, 0.03, 0.04. Times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; none below the one before: 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_missing_tests_do_not_count():
    assert holm([None, 0.02, None, 0.5]) == [None, pytest.approx(0.04), None, 0.5]
    assert holm([]) == [] and holm([None]) == [None] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_some_true_null_is_rejected_in_at_most_5_percent_of_data_sets():
    """Six true nulls and four that are far from true. The false ones are rejected first, so that six remain."""
    generator = np.random.default_rng(0)
    errors = 0
    for _ in range(2000):
        adjusted = holm([*generator.random(6), *(1e-9 * generator.random(4))])
        errors += any(p <= 0.05 for p in adjusted[:6])
        assert all(p <= 0.05 for p in adjusted[6:])
    assert binomtest(errors, 2000, 1 - (1 - 0.05 / 6) ** 6).pvalue > 0.001, errors
