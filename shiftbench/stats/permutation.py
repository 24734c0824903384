"""The paired sign-flip permutation test.

It does not need normal differences. It needs that under the null hypothesis each difference has either sign equally
often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

# The largest number of differences, zeros not counted, for which all 2 ** n sign assignments are tried. The 65,536 sums
# of 16 differences take a millisecond.
MOST_EXACT = 16
DRAWS = 9999  # number of random assignments where not all are tried: the standard error of p = 0.05 is 0.002
_BLOCK = 2**22  # most signs that are drawn at once; their product with the differences copies them to float64, 32 MiB
Alternative = Literal["two-sided", "less", "greater"]


@dataclass(frozen=True)
class SignFlip:
    """The result of a sign-flip test.

    p: None where all differences are 0 or there is none. n: the number of differences, zeros included. draws: the
    number of random sign assignments that p is computed from; 0 where all assignments were tried, or where p is None.
    """

    p: float | None
    n: int
    draws: int


def sign_flip(differences: ArrayLike, alternative: Alternative, seed: int, draws: int = DRAWS) -> SignFlip:
    """Test of whether the sum of paired differences [n] is as random signs would give it (Fisher 1935, section 21).

    The sum is compared with the sums of the same absolute values under other signs. A sum is at least as extreme if it
    is at least as large ('greater'), at most as large ('less'), or its absolute value at least as large ('two-sided').
    Where at most 16 differences are not zero, p is exact: the share of all sign assignments whose sum is at least as
    extreme. With more differences, p is (1 + k) / (1 + draws), where k counts those of `draws` random assignments (by
    `seed`) that are at least as extreme; this is valid for every number of draws (Phipson and Smyth 2010).
    """
    x = np.asarray(differences, dtype=np.float64)
    signed = x[x != 0]  # the sign of a zero changes nothing
    if signed.size == 0:
        return SignFlip(None, x.size, 0)
    # slack: sums that are equal in exact arithmetic can differ by this much, through rounding.
    observed, slack = signed.sum(), 1e-12 * np.abs(signed).sum()
    if signed.size <= MOST_EXACT:
        extreme = _extreme(_all_sums(signed), observed, slack, alternative)
        return SignFlip(float(extreme.mean()), x.size, 0)
    generator = np.random.default_rng(seed)
    count, rows = 0, max(1, _BLOCK // signed.size)
    for begin in range(0, draws, rows):
        sign = generator.integers(0, 2, (min(rows, draws - begin), signed.size), dtype=np.int8)
        # A 1 keeps a difference's sign and a 0 turns it, so a sum is: those kept, less (all, less those kept).
        sums = 2.0 * (sign @ signed) - observed
        count += int(_extreme(sums, observed, slack, alternative).sum())
    return SignFlip((1 + count) / (1 + draws), x.size, draws)


def _all_sums(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2 ** n sums of the n values of x, one for each way to multiply the values by 1 or -1."""
    sums = np.zeros(1)
    for value in x:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _extreme(sums: NDArray[np.float64], observed: float, slack: float, alternative: Alternative) -> NDArray[np.bool_]:
    """For each of `sums`, whether it is at least as extreme as `observed`; differences up to `slack` count as equal."""
    if alternative == "greater":
        return sums >= observed - slack
    if alternative == "less":
        return sums <= observed + slack
    return np.abs(sums) >= abs(observed) - slack
