"""The paper's two claims about recognition, and the numbers that bear on them, with and without length control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from shiftbench.published.scores import FIRST, SHORTEST
from shiftbench.stats import Bootstrap, Interval, TTest, paired_test, welch_test

VERSIONS = {  # of both tables: name in tables.json -> how much of each response counts
    "whole": "whole responses",
    "first50": f"the first {FIRST} pieces",
    "min_len": "both cut to the shorter",
}
ALPHA = 0.05  # of the paper's one-sided Welch test
Sides = tuple[pd.Series, pd.Series]


@dataclass(frozen=True)
class Claim:
    """That the scores of one side are lower than those of the other. split: (scores, version) -> both sides' scores.
    paired: the sides are the same prompts, row by row."""

    table: str
    lower: str
    higher: str
    split: Callable[[pd.DataFrame, str], Sides]
    paired: bool


@dataclass(frozen=True)
class Comparison:
    """One claim in one prompt set, with responses counted as one version says. Tests are one-sided; None: no test."""

    claim: Claim
    dataset: str
    version: str
    lower: pd.Series
    higher: pd.Series
    welch: TTest | None
    paired: TTest | None

    @property
    def observations(self) -> int:
        """Prompts where the sides are paired, else responses of both."""
        return len(self.lower) if self.claim.paired else len(self.lower) + len(self.higher)

    def difference(self, bootstrap: Bootstrap) -> Interval:
        """mean(higher) - mean(lower) with its interval."""
        if self.claim.paired:
            return bootstrap.mean(self.higher - self.lower)
        return bootstrap.difference_of_means(self.higher, self.lower)

    @property
    def verdict(self) -> str:
        """What the paper's test says of the claim: holds, not clear, reversed, or no test."""
        if self.welch is None:
            return "no test"
        if self.welch.p < ALPHA:
            return "holds"
        return "reversed" if self.welch.p > 1 - ALPHA else "not clear"


def by_rating(rows: pd.DataFrame, version: str) -> Sides:
    """Tuned's scores of (unfollowed, followed) responses of at least SHORTEST pieces."""
    score = rows.loc[rows["tuned_pieces"] >= SHORTEST, f"tuned_{version}"].dropna()
    rating = rows.loc[score.index, "rating"]
    return score[rating == 1], score[rating >= 2]


def by_model(rows: pd.DataFrame, version: str) -> Sides:
    """Scores of (base, tuned), prompt by prompt."""
    both = rows[[f"base_{version}", f"tuned_{version}"]].dropna()
    return both[f"base_{version}"], both[f"tuned_{version}"]


CLAIMS = (
    Claim("table1", "unfollowed", "followed", by_rating, paired=False),
    Claim("table2", "base", "tuned", by_model, paired=True),
)


def compare(rows: pd.DataFrame, claim: Claim) -> list[Comparison]:
    """The claim in every prompt set, in alphabetical order, and in every version."""
    found = []
    for name, part in rows.groupby("dataset"):
        for version in VERSIONS:
            lower, higher = (side.astype(np.float64) for side in claim.split(part, version))
            paired = paired_test(lower - higher, "less") if claim.paired else None
            welch = welch_test(lower, higher, "less")
            found.append(Comparison(claim, str(name), version, lower, higher, welch, paired))
    return found
