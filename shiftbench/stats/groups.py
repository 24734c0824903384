"""Whether groups differ: the variance between them, compared with that between random groups of the same sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.stats.permutation import DRAWS


@dataclass(frozen=True)
class BetweenGroups:
    """How much of a quantity's variance is between groups, with a permutation test.

    share: omega squared, the estimated share of the variance that is between groups (Hays 1963). Where groups do not
    differ it is about 0 on average, so it can be negative. p: of the permutation test; None where no test is possible.
    n: the number of observations.
    """

    share: float
    p: float | None
    n: int


def between_groups(values: ArrayLike, labels: ArrayLike, seed: int, draws: int = DRAWS) -> BetweenGroups:
    """The share of the variance of values [n] that is between groups, and its permutation test.

    labels [n]: the group of each value; equal labels are one group. p is (1 + k) / (1 + draws), where k counts, among
    `draws` random assignments of the values to groups of the same sizes (by `seed`), those whose sum of squares between
    groups is at least the observed one. share is 0 and p None where there are fewer than two groups, no more values
    than groups, or no variance.
    """
    x = np.asarray(values, dtype=np.float64)
    _, group_N, size_G = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    centred = x - x.mean() if x.size else x
    total, groups = float(centred @ centred), len(size_G)
    if groups < 2 or x.size <= groups or total == 0:
        return BetweenGroups(0.0, None, x.size)
    between = _between(centred, group_N, size_G)
    within = max(total - between, 0.0) / (x.size - groups)
    share = (between - (groups - 1) * within) / (total + within)
    generator = np.random.default_rng(seed)
    # A permutation that only exchanges whole groups gives the observed sum but for rounding, and must count.
    least = between * (1 - 1e-12)
    as_far = sum(_between(generator.permutation(centred), group_N, size_G) >= least for _ in range(draws))
    return BetweenGroups(share, (1 + as_far) / (1 + draws), x.size)


def _between(centred_N: NDArray[np.float64], group_N: NDArray[np.intp], size_G: NDArray[np.intp]) -> float:
    """The sum of squares between groups: over groups, the group's size times the square of its mean.

    centred_N: the values less their overall mean. group_N: the index of each value's group. size_G: the groups' sizes.
    """
    sum_G = np.bincount(group_N, weights=centred_N)
    return float((sum_G * sum_G / size_G).sum())
