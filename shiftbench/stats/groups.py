"""Whether groups differ at all: the variance between them, beside that between random groups of their sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shiftbench.stats.permutation import DRAWS


@dataclass(frozen=True)
class BetweenGroups:
    """share: of the variance that lies between groups, omega squared (Hays 1963); 0 on average where they do not
    differ, so at times below. p: of the permutation test, None where there is nothing to permute. n: observations."""

    share: float
    p: float | None
    n: int


def between_groups(values: ArrayLike, labels: ArrayLike, seed: int, draws: int = DRAWS) -> BetweenGroups:
    """Values [n] with a label each. p is (1 + as far apart) / (1 + draws) over seeded permutations of the labels."""
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
    least = between * (1 - 1e-12)  # equal sums differ by the order of their addition
    as_far = sum(_between(generator.permutation(centred), group_N, size_G) >= least for _ in range(draws))
    return BetweenGroups(share, (1 + as_far) / (1 + draws), x.size)


def _between(centred_N: NDArray[np.float64], group_N: NDArray[np.intp], size_G: NDArray[np.intp]) -> float:
    """Sum of squares between groups."""
    sum_G = np.bincount(group_N, weights=centred_N)
    return float((sum_G * sum_G / size_G).sum())
