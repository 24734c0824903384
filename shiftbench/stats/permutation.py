"""The paired sign-flip permutation test.

It does not need normal differences. It needs that under the null hypothesis each difference has either sign equally
often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_EXACT = 16  # up to so many differences all 2 ** n sign assignments are tried; 65,536 sums take a millisecond
DRAWS = 9999  # random sign assignments where there are more differences: the standard error of p = 0.05 is 0.002
_BLOCK = 2**22  # signs that are drawn together: 32 MiB
Alternative = Literal["two-sided", "less", "greater"]


@dataclass(frozen=True)
class SignFlip:
    """p: None where all differences are 0. n: number of differences, zeros included. draws: 0 where p is exact."""

    p: float | None
    n: int
    draws: int


def sign_flip(differences: ArrayLike, alternative: Alternative, seed: int, draws: int = DRAWS) -> SignFlip:
    """Test of whether the sum of paired differences [n] is as random signs would give it (Fisher 1935, section 21).

    Where at most 16 differences are not zero, p is exact: the share of all sign assignments whose sum is at least as
    extreme. Otherwise p is (1 + k) / (1 + draws), where k counts the seeded random assignments that are at least as
    extreme; this is valid for every number of draws (Phipson and Smyth 2010).
    """
    x = np.asarray(differences, dtype=np.float64)
    signed = x[x != 0]  # the sign of a zero changes nothing
    if signed.size == 0:
        return SignFlip(None, x.size, 0)
    observed, slack = signed.sum(), 1e-12 * np.abs(signed).sum()  # equal sums differ by rounding
    if signed.size <= MOST_EXACT:
        extreme = _extreme(_all_sums(signed), observed, slack, alternative)
        return SignFlip(float(extreme.mean()), x.size, 0)
    generator = np.random.default_rng(seed)
    count, rows = 0, max(1, _BLOCK // signed.size)
    for begin in range(0, draws, rows):
        sign = generator.integers(0, 2, (min(rows, draws - begin), signed.size), dtype=np.int8)
        sums = 2.0 * (sign @ signed) - observed
        count += int(_extreme(sums, observed, slack, alternative).sum())
    return SignFlip((1 + count) / (1 + draws), x.size, draws)


def _all_sums(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sums of x under all 2 ** n assignments of signs."""
    sums = np.zeros(1)
    for value in x:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _extreme(sums: NDArray[np.float64], observed: float, slack: float, alternative: Alternative) -> NDArray[np.bool_]:
    """Which sums are at least as extreme as the observed one, up to a rounding error of `slack`."""
    if alternative == "greater":
        return sums >= observed - slack
    if alternative == "less":
        return sums <= observed + slack
    return np.abs(sums) >= abs(observed) - slack
