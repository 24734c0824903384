"""Percentile-bootstrap intervals of means and of differences of means (docs/mathematics.md, "Scores")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from shiftbench import ops
from shiftbench.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its percentile-bootstrap confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """The percentile bootstrap of means, with its options. Its methods return a mean and its confidence interval.

    resamples: the number of resamples for each interval. confidence: the confidence level, in (0, 1). seed: of the
    random resamples; the same values and seed give the same bounds.
    """

    resamples: int
    confidence: float
    seed: int

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise InputError(f"bootstrap.confidence={self.confidence} must lie between 0 and 1")
        if self.resamples < 1:
            raise InputError(f"bootstrap.resamples={self.resamples} must be at least 1")

    def mean(self, values: ArrayLike) -> Interval:
        """The mean of values [n], with its interval. Where n = 0, the mean and both bounds are 0.

        A resample is n of these values, drawn with replacement. For paired observations, pass their differences.
        """
        return self.stratified_mean(values, None)

    def stratified_mean(self, values: ArrayLike, strata: ArrayLike | None) -> Interval:
        """The mean of values [n], with its interval. Where n = 0, the mean and both bounds are 0.

        strata [n]: a label for each value, such as its layer; None: all values are one stratum. Values are drawn with
        replacement within their stratum, so each resample has as many values of each stratum as `values` has.
        """
        x = np.asarray(values, dtype=np.float64)
        if x.size == 0:
            return Interval(0.0, 0.0, 0.0)
        labels = np.zeros(x.size, dtype=np.int64) if strata is None else np.asarray(strata)
        _, stratum, length = np.unique(labels, return_inverse=True, return_counts=True)
        mean_SG = self._resampled_means(x[np.argsort(stratum, kind="stable")], length.tolist())
        return self._interval(float(x.mean()), (mean_SG * (length / x.size)).sum(1))

    def difference_of_means(self, first: ArrayLike, second: ArrayLike) -> Interval:
        """mean(first) - mean(second) of two independent samples, with its interval; each sample is resampled by itself.

        Where a sample is empty, the difference and both bounds are 0.
        """
        a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        if a.size == 0 or b.size == 0:
            return Interval(0.0, 0.0, 0.0)
        mean_SG = self._resampled_means(np.concatenate([a, b]), [a.size, b.size])
        return self._interval(float(a.mean() - b.mean()), mean_SG[:, 0] - mean_SG[:, 1])

    def _resampled_means(self, x: NDArray[np.float64], length: list[int]) -> NDArray[np.float64]:
        """mean_SG: the mean of each of the S resamples of each of the G groups.

        x: the values of all groups, the first group's before the second's. length: how many values each group has.
        """
        return ops.bootstrap(torch.from_numpy(x), length, self.resamples, self.seed).numpy()

    def _interval(self, value: float, drawn: NDArray[np.float64]) -> Interval:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Interval(value, float(low), float(high))
