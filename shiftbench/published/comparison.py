"""The paper's two claims about instruction recognition, and tests of them with and without length control.

Length control means that responses are cut short: both models' to the first FIRST_PIECES pieces, or the longer one to
the length of the shorter one (docs/mathematics.md, Length).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shiftbench.published.scores import FEWEST_PIECES, FIRST_PIECES
from shiftbench.stats import Bootstrap, Interval, TTest, paired_test, welch_test

# Versions of both tables: name in tables.json -> how much of each response counts.
VERSIONS = {
    "whole": "whole responses",
    "first50": f"the first {FIRST_PIECES} pieces",
    "min_len": "both cut to the shorter",
}
ALPHA = 0.05  # significance level of the paper's one-sided Welch test
Sides = tuple[pd.Series, pd.Series]


@dataclass(frozen=True)
class Claim:
    """A claim that the scores of one side are lower on average than those of the other side.

    table: 'table1' or 'table2'. lower, higher: names of the sides. split: (rows of `prompt_scores`, key of VERSIONS) ->
    (scores of the side `lower`, scores of the side `higher`). paired: whether row i of both sides is the same prompt.
    """

    table: str
    lower: str
    higher: str
    split: Callable[[pd.DataFrame, str], Sides]
    paired: bool


@dataclass(frozen=True)
class Comparison:
    """One claim tested on one prompt set, in one version of how much of each response counts.

    dataset: the name of the prompt set. version: a key of VERSIONS. lower, higher: the scores of both sides. welch,
    paired: Welch's test and the paired t-test of whether the mean of lower is below the mean of higher, both one-sided;
    None where there are too few scores or they do not vary (for paired, where the prompts' differences do not). paired
    is also None where the claim is not paired.
    """

    claim: Claim
    dataset: str
    version: str
    lower: pd.Series
    higher: pd.Series
    welch: TTest | None
    paired: TTest | None

    @property
    def observations(self) -> int:
        """The number of prompts where the sides are paired, else the number of responses of both sides."""
        return len(self.lower) if self.claim.paired else len(self.lower) + len(self.higher)

    def difference(self, bootstrap: Bootstrap) -> Interval:
        """mean(higher) - mean(lower) with its bootstrap confidence interval.

        Where the sides are paired, prompts are resampled; where they are not, the responses of each side.
        """
        if self.claim.paired:
            return bootstrap.mean(self.higher - self.lower)
        return bootstrap.difference_of_means(self.higher, self.lower)

    @property
    def verdict(self) -> str:
        """The result of the paper's test, which is Welch's: 'holds', 'not clear', 'reversed' or 'no test'.

        The claim holds where p is below ALPHA, and is reversed where p is above 1 - ALPHA. Without Welch's test
        (`welch` is None) the result is 'no test'.
        """
        if self.welch is None:
            return "no test"
        if self.welch.p < ALPHA:
            return "holds"
        return "reversed" if self.welch.p > 1 - ALPHA else "not clear"


def by_rating(rows: pd.DataFrame, version: str) -> Sides:
    """(scores of unfollowed responses, scores of followed responses) of the tuned model.

    rows: of `prompt_scores`. version: a key of VERSIONS. Unfollowed is the rating 1, and followed 2 to 4. Left out are
    responses that are not rated or rated as excluded, that have fewer than FEWEST_PIECES pieces, or that have no score
    in this version.
    """
    score = rows.loc[rows["tuned_pieces"] >= FEWEST_PIECES, f"tuned_{version}"].dropna()
    rating = rows.loc[score.index, "rating"]
    return score[rating == 1], score[rating >= 2]


def by_model(rows: pd.DataFrame, version: str) -> Sides:
    """(scores of base, scores of tuned), with the same prompt in the same row.

    rows: of `prompt_scores`. version: a key of VERSIONS. Prompts without a score in this version are left out.
    """
    both = rows[[f"base_{version}", f"tuned_{version}"]].dropna()
    return both[f"base_{version}"], both[f"tuned_{version}"]


CLAIMS = (
    Claim("table1", "unfollowed", "followed", by_rating, paired=False),
    Claim("table2", "base", "tuned", by_model, paired=True),
)


def compare(rows: pd.DataFrame, claim: Claim) -> list[Comparison]:
    """The claim's comparisons: for each prompt set, in alphabetical order, one for each of VERSIONS, in their order.

    rows: the `prompt_scores` of all prompt sets.
    """
    found = []
    for name, part in rows.groupby("dataset"):
        for version in VERSIONS:
            lower, higher = (side.astype(np.float64) for side in claim.split(part, version))
            paired = paired_test(lower - higher, "less") if claim.paired else None
            welch = welch_test(lower, higher, "less")
            found.append(Comparison(claim, str(name), version, lower, higher, welch, paired))
    return found
