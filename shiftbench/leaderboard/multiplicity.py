"""Corrects the tests of a board's claims over all pairs and claims (docs/mathematics.md, 'Claims over a board')."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shiftbench.stats import FEWEST_DRAWS, holm
from shiftbench.verdicts.decision import ALPHA

METHOD = "Holm"


@dataclass(frozen=True)
class ClaimTest:
    """The test of one claim of one pair.

    p: two-sided, of this claim alone, before correction. draws: the number of null models, at least 1. beyond: how many
    null models score at least as much as the tuned model, where the headline of the claim's verdict is above 0; where
    it is not, how many score at most as much.
    """

    p: float
    draws: int
    beyond: int

    @property
    def rank_p(self) -> float:
        """The rank p of the tuned model among the null models, on the headline's side: at least 1 / (draws + 1)."""
        return (1 + self.beyond) / (1 + self.draws)


def corrected(tests: Sequence[ClaimTest | None]) -> list[float | None]:
    """The p of each claim, corrected by Holm's method over all claims that were tested, in the order of `tests`.

    None (the claim was not tested) stays None and is not counted. What is corrected is the larger of `p` and
    `rank_p`. `p` rests on Student's t: while that holds, the probability that a board has any false word is at most
    ALPHA. `rank_p` needs no distribution, only that the tuned model of a false claim scores like one more null model.
    It is one-sided, because each word is about one side. So it bounds the probability of any false `supported` on a
    board, and that of any false `opposite`, but not both together, by about ALPHA.
    """
    return holm([None if test is None else max(test.p, test.rank_p) for test in tests])


def draws_needed(tests: int) -> int:
    """The fewest null models with which the smallest corrected p of so many tests can be ALPHA or less.

    It is the least m with tests / (m + 1) <= ALPHA, for example 599 for 30 tests, or FEWEST_DRAWS if that is more.
    Where some tests of a board have such a p already, Holm's method multiplies by the number of the others only.
    """
    return max(FEWEST_DRAWS, math.ceil(tests / ALPHA) - 1)
