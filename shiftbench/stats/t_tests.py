"""Student's and Welch's t-tests, which the paper reports, and the paired t-test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ttest_1samp, ttest_ind, ttest_ind_from_stats


@dataclass(frozen=True)
class TTest:
    """The result of a t-test: the t statistic, its p, and its degrees of freedom (not whole for Welch's test)."""

    t: float
    p: float
    df: float


def paired_test(differences: ArrayLike, alternative: str) -> TTest | None:
    """The paired t-test: whether the mean of differences [n] differs from 0.

    alternative: 'two-sided', 'less' (the mean is below 0) or 'greater'. None where n < 2 or all differences are equal,
    because the test is not defined there.
    """
    x = np.asarray(differences, dtype=np.float64)
    if x.size < 2 or np.ptp(x) == 0:
        return None
    test = ttest_1samp(x, 0.0, alternative=alternative)
    return TTest(float(test.statistic), float(test.pvalue), float(test.df))


def paired_p(differences: ArrayLike) -> float | None:
    """The two-sided p of the paired t-test of differences [n] against 0; None where n < 2 or all are equal."""
    test = paired_test(differences, "two-sided")
    return test.p if test else None


def student_test(first: ArrayLike, second: ArrayLike) -> TTest | None:
    """Student's equal-variance t-test of two samples' means, two-sided. t is positive if the mean of `first` is larger.

    None where a sample has fewer than two values, or where both samples are constant.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.size < 2 or b.size < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return None
    # ttest_ind warns where one sample is constant, although the test is then still defined. So the moments are passed.
    moments = (float(of) for x in (a, b) for of in (x.mean(), x.std(ddof=1), x.size))
    test = ttest_ind_from_stats(*moments, equal_var=True)
    return TTest(float(test.statistic), float(test.pvalue), float(a.size + b.size - 2))


def welch_test(first: ArrayLike, second: ArrayLike, alternative: str) -> TTest | None:
    """Welch's unequal-variance t-test of two samples' means. t is positive if the mean of `first` is larger.

    alternative: 'two-sided', 'less' (the mean of `first` is below that of `second`) or 'greater'. None where a sample
    has fewer than two values, or where both samples are constant.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.size < 2 or b.size < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return None
    test = ttest_ind(a, b, equal_var=False, alternative=alternative)
    return TTest(float(test.statistic), float(test.pvalue), float(test.df))


def welch(first: ArrayLike, second: ArrayLike, alternative: str) -> tuple[float | None, float | None]:
    """(t, p) of welch_test(first, second, alternative); (None, None) where that test is not defined."""
    test = welch_test(first, second, alternative)
    return (test.t, test.p) if test else (None, None)
