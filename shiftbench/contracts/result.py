"""What a finding gives: scores with intervals, tables, and figures as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import pandas as pd


class Kind(Enum):
    """What a score is. SHIFT: what tuning changed, 0 for a model and itself. LEVEL: what one model is like.
    DIAGNOSTIC: a number that helps to read the others and answers no question of its own."""

    SHIFT = "shift"
    LEVEL = "level"
    DIAGNOSTIC = "diagnostic"


@dataclass(frozen=True)
class ScoreFact:
    """What a score means, for whoever shows it.

    label: the score's name in words. unit: of its value and interval. positive, zero: what such a value says.
    """

    label: str
    unit: str
    positive: str
    zero: str
    kind: Kind = Kind.SHIFT


@dataclass(frozen=True)
class Score:
    """One number of a finding. Positive: tuning moved the model the way the finding says; 0 for a model and itself.
    Of a check of the method (attribution_faithfulness): how right it is for one model, above 0 where it is at all.

    low, high: bounds of the confidence interval. p: None where no test was made. n: how many observations carry it;
    0 where nothing changed or nothing could be compared.
    """

    finding: str
    name: str
    value: float
    low: float
    high: float
    p: float | None
    n: int


@dataclass(frozen=True)
class Figure:
    """A picture as data: the report draws it.

    kind: 'line' (one line a series over x), 'bar' (grouped bars) or 'heat' (rows series, columns x, colour y).
    table: long form, with the columns named by x, y, series and, where there is an interval, low and high.
    """

    name: str
    title: str
    kind: str
    table: pd.DataFrame
    x: str
    y: str
    series: str
    low: str | None = None
    high: str | None = None
    dashed: Sequence[str] = ()  # series drawn dashed: the base model's, as in the paper
    diverging: bool = False  # a heat map whose zero is in the middle of its colours
    x_label: str = ""
    y_label: str = ""


@dataclass(frozen=True)
class Saliency:
    """One prompt seen by both models: its tokens, which of them state the instruction, and each model's density."""

    prompt_id: str
    tokens: Sequence[str]
    instruction: Sequence[bool]
    base_density: Sequence[float]
    tuned_density: Sequence[float]
    response: str
    base_score: float
    tuned_score: float


@dataclass(frozen=True)
class Result:
    """All that one finding says about one pair.

    sentence: the finding in one plain sentence with its numbers, for people who read no table.
    headline: the name of the score that the sentence is about.
    tables: by name. One called `prompts` has a row a prompt; where the headline is the mean of what prompts changed,
    its columns HEADLINE_base and HEADLINE_tuned are what changed.
    level: whether the scores say what one model is like (a check of its attributions), and not what tuning changed.
    flags: warnings in a word, as 'unfaithful:base', for lists of runs; notes: remarks for the reader of this one.
    """

    finding: str
    headline: str
    sentence: str
    scores: Sequence[Score]
    tables: dict[str, pd.DataFrame]
    figures: Sequence[Figure] = ()
    saliency: Sequence[Saliency] = field(default=())
    level: bool = False
    flags: Sequence[str] = ()
    notes: Sequence[str] = ()

    def score(self, name: str) -> Score:
        """The score of that name, which must be there."""
        return next(score for score in self.scores if score.name == name)


def no_change(finding: str, name: str) -> Score:
    """The score of two models between which nothing changed, or nothing could be compared."""
    return Score(finding, name, 0.0, 0.0, 0.0, None, 0)


def all_scores(results: Sequence[Result]) -> list[Score]:
    """Every score of every finding, in order."""
    return [score for result in results for score in result.scores]
