"""The paired sign-flip permutation test: no normality asked for, only that a difference could have had either sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_EXACT = 16  # differences whose 2 ** n signs are all tried; 65,536 sums take a millisecond
DRAWS = 9999  # of signs where there are more: p moves by 0.002 around 0.05
_BLOCK = 2**22  # signs drawn at a time: 32 MiB
Alternative = Literal["two-sided", "less", "greater"]


@dataclass(frozen=True)
class SignFlip:
    """p: None where no difference has a sign. n: differences given, zeros included. draws: 0 where p is exact."""

    p: float | None
    n: int
    draws: int


def sign_flip(differences: ArrayLike, alternative: Alternative, seed: int, draws: int = DRAWS) -> SignFlip:
    """Whether the sum of paired differences [n] is what random signs would give (Fisher 1935, section 21).

    Exact where at most 16 differences are not zero: the share of sign assignments whose sum is as extreme. Else
    (1 + as extreme) / (1 + draws) over seeded draws, which is valid at every number of draws (Phipson and Smyth 2010).
    """
    x = np.asarray(differences, dtype=np.float64)
    signed = x[x != 0]  # the sign of a zero changes nothing
    if signed.size == 0:
        return SignFlip(None, x.size, 0)
    observed, slack = signed.sum(), 1e-12 * np.abs(signed).sum()  # equal sums differ by the order of their addition
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
    if alternative == "greater":
        return sums >= observed - slack
    if alternative == "less":
        return sums <= observed + slack
    return np.abs(sums) >= abs(observed) - slack
