"""The difference between two groups of rows of a table whose rows and columns are both sampled.

docs/mathematics.md, "Instruction verbs".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit


@dataclass(frozen=True)
class CrossedDifference:
    """A difference of two groups' means with its confidence interval and its two-sided p.

    n: the number of rows that count in the group that has fewer. p is that of the t statistic that the interval is made
    of, so it is below 1 - confidence exactly where the interval excludes 0. p is None, and both bounds are the value,
    where the variance is 0, or where each group has a single row that counts.
    """

    value: float
    low: float
    high: float
    p: float | None
    n: int


def crossed_difference(
    value_VN: NDArray[np.float64] | NDArray[np.bool_],
    counted_VN: NDArray[np.bool_],
    first_V: NDArray[np.bool_],
    confidence: float,
) -> CrossedDifference | None:
    """The mean of the first group's rows less that of the other rows. None where a group has no row that counts.

    A row's value is the mean of its cells that count; a group's mean is that of its rows' values. value_VN: finite in
    all cells, also in those that do not count. counted_VN: which cells count; rows without such a cell are left out.
    first_V: which rows are the first group's.

    Rows are a sample and columns are a sample, so cells of one row vary together, and cells of one column do. The
    variance is that of Cameron, Gelbach and Miller (2011) for two crossed clusterings: sums of squares of the rows'
    deviations and of the columns', less those of the cells, which both of them hold. The columns' part is 0 where it
    comes out negative. The bounds, at the level `confidence`, use Student's t with n - 1 degrees of freedom (n of
    CrossedDifference).

    A group of one row is taken to vary as the other group does, with the other's degrees of freedom.
    """
    used_V = counted_VN.any(1)
    values, counted, first = value_VN[used_V].astype(np.float64), counted_VN[used_V], first_V[used_V]
    size = np.array([int(first.sum()), int((~first).sum())])
    if size.min() == 0:
        return None
    cells_V = counted.sum(1)
    mean_V = (values * counted).sum(1) / cells_V
    mean = np.array([mean_V[first].mean(), mean_V[~first].mean()])
    value, count = float(mean[0] - mean[1]), int(size.min())
    group_V = np.where(first, 0, 1)
    deviation_V = (mean_V - mean[group_V]) / size[group_V]
    squares = np.array([(deviation_V[first] ** 2).sum(), (deviation_V[~first] ** 2).sum()])
    variance = squares * size / np.maximum(size - 1, 1)
    single = size == 1
    variance[single] = variance[::-1][single] * size[::-1][single]
    columns = _columns_part(values, counted, group_V, mean, cells_V * size[group_V])
    error = math.sqrt(float(variance.sum()) + columns)
    df = int(size.max() if count == 1 else count) - 1
    if error == 0 or df == 0:
        return CrossedDifference(value, value, value, None, count)
    half = float(stdtrit(df, (1 + confidence) / 2)) * error
    return CrossedDifference(value, value - half, value + half, 2 * float(stdtr(df, -abs(value) / error)), count)


def _columns_part(
    value_VN: NDArray[np.float64],
    counted_VN: NDArray[np.bool_],
    group_V: NDArray[np.intp],
    mean: NDArray[np.float64],
    divisor_V: NDArray[np.float64],
) -> float:
    """The variance that cells of one column share; at least 0.

    It is the sum, over columns, of the products of the deviations of two different cells, each pair counted twice,
    times N / (N - 1) for N columns with a cell that counts. divisor_V: what a cell's deviation is divided by: its row's
    number of cells that count, times the number of rows in the row's group. group_V: 0 for rows of the first group,
    else 1. mean: the two groups' means. The second group's deviations count with the opposite sign, so what a column
    adds to both groups cancels.
    """
    sign_V = np.where(group_V == 0, 1.0, -1.0)
    deviation_VN = np.where(counted_VN, value_VN - mean[group_V][:, None], 0.0) * (sign_V / divisor_V)[:, None]
    columns = int(counted_VN.any(0).sum())
    shared = float((deviation_VN.sum(0) ** 2).sum() - (deviation_VN**2).sum())
    return max(shared, 0.0) * columns / max(columns - 1, 1)
