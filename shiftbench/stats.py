"""Numbers about numbers: bootstrap intervals, the paper's Welch tests, angles and rotations between subspaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import ttest_1samp, ttest_ind
from torch import Tensor

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
    """How intervals are drawn: percentile bootstrap of the mean.

    resamples: draws per interval. confidence: in (0, 1). seed: the same seed gives the same bounds.
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
        """Mean of values [n] with its interval; resampled over n. Pair first: give differences. 0, 0, 0 where n = 0."""
        return self.stratified_mean(values, None)

    def stratified_mean(self, values: ArrayLike, strata: ArrayLike | None) -> Interval:
        """Mean of values [n], resampled within strata [n] (labels), so that each keeps its number of observations."""
        x = np.asarray(values, dtype=np.float64)
        if x.size == 0:
            return Interval(0.0, 0.0, 0.0)
        labels = np.zeros(x.size, dtype=np.int64) if strata is None else np.asarray(strata)
        _, stratum, length = np.unique(labels, return_inverse=True, return_counts=True)
        mean_SG = self._resampled_means(x[np.argsort(stratum, kind="stable")], length.tolist())
        return self._interval(float(x.mean()), (mean_SG * (length / x.size)).sum(1))

    def difference_of_means(self, first: ArrayLike, second: ArrayLike) -> Interval:
        """mean(first) - mean(second) of two independent samples, each resampled on its own."""
        a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
        if a.size == 0 or b.size == 0:
            return Interval(0.0, 0.0, 0.0)
        mean_SG = self._resampled_means(np.concatenate([a, b]), [a.size, b.size])
        return self._interval(float(a.mean() - b.mean()), mean_SG[:, 0] - mean_SG[:, 1])

    def _resampled_means(self, x: NDArray[np.float64], length: list[int]) -> NDArray[np.float64]:
        return ops.bootstrap(torch.from_numpy(x), length, self.resamples, self.seed).numpy()

    def _interval(self, value: float, drawn: NDArray[np.float64]) -> Interval:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Interval(value, float(low), float(high))


def paired_p(differences: ArrayLike) -> float | None:
    """Two-sided paired t-test p of differences [n]; None where n < 2 or all are equal (no test exists)."""
    x = np.asarray(differences, dtype=np.float64)
    return float(ttest_1samp(x, 0.0).pvalue) if x.size > 1 and np.ptp(x) > 0 else None


def welch(first: ArrayLike, second: ArrayLike, alternative: str) -> tuple[float | None, float | None]:
    """(t, p) of Welch's unequal-variance t-test; alternative: 'two-sided', 'less' or 'greater' (first vs second).

    (None, None) where a sample has fewer than two values or neither varies.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.size < 2 or b.size < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
        return None, None
    test = ttest_ind(a, b, equal_var=False, alternative=alternative)
    return float(test.statistic), float(test.pvalue)


def principal_angles(first_CD: Tensor, second_CD: Tensor) -> Tensor:
    """Principal angles angle_C (radians, ascending, float64) between the row spaces of two orthonormal bases.

    Cosines lose small angles and sines lose large ones, so each is used where it is exact (Bjorck and Golub 1973).
    Equal bases give exactly 0.
    """
    if torch.equal(first_CD, second_CD):
        return torch.zeros(len(first_CD), dtype=torch.float64)
    a, b = first_CD.double(), second_CD.double()
    overlap = b @ a.T
    cosine_C = torch.linalg.svdvals(overlap).clamp(max=1.0)
    sine_C = torch.linalg.svdvals(b - overlap @ a).clamp(max=1.0).flip(0)
    return torch.where(cosine_C**2 > 0.5, torch.arcsin(sine_C), torch.arccos(cosine_C))


def matched_cosines(first_CD: Tensor, second_CD: Tensor) -> Tensor:
    """|cosine| of each first component with the second one it is matched to (float64 [C]), best total matching.

    A component's sign means nothing. Equal bases give exactly 1.
    """
    if torch.equal(first_CD, second_CD):
        return torch.ones(len(first_CD), dtype=torch.float64)
    cosine_CC = (first_CD.double() @ second_CD.double().T).abs()
    rows, columns = linear_sum_assignment(cosine_CC.numpy(), maximize=True)
    return cosine_CC[rows, columns].clamp(max=1.0)


def rotation_share(base_FD: Tensor, tuned_FD: Tensor) -> float:
    """Share of |tuned - base|^2 that the best rotation of base's rows explains (Procrustes, Schonemann 1966).

    1 where tuned is base rotated; 0 where nothing changed. Even an arbitrary small change has about (D - 1) / (2 F)
    of it: compare with the share of a permuted change.
    """
    base, tuned = base_FD.double(), tuned_FD.double()
    u, _, vh = torch.linalg.svd(base.T @ tuned)
    return _explained(base, tuned, base @ (u @ vh))


def rescaling_share(base_FD: Tensor, tuned_FD: Tensor) -> float:
    """Share of |tuned - base|^2 that multiplying base by one number explains (least squares)."""
    base, tuned = base_FD.double(), tuned_FD.double()
    return _explained(base, tuned, base * ((base * tuned).sum() / (base * base).sum()))


def permuted_change(base_FD: Tensor, tuned_FD: Tensor, seed: int) -> Tensor:
    """base + a random permutation of the entries of (tuned - base): a change of the same size without structure."""
    change = (tuned_FD - base_FD).flatten()
    order = torch.randperm(change.numel(), generator=torch.Generator().manual_seed(seed))
    return base_FD + change[order].reshape(base_FD.shape)


def _explained(base: Tensor, tuned: Tensor, predicted: Tensor) -> float:
    change = float((tuned - base).square().sum())
    return 0.0 if change == 0 else 1.0 - float((tuned - predicted).square().sum()) / change
