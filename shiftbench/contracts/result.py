"""What a finding returns: scores with confidence intervals, tables, and figures as data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatch

import pandas as pd


class Kind(Enum):
    """What kind of number a score is.

    SHIFT: how much tuning changed something; it is 0 for a model compared with itself. LEVEL: a property of one model.
    DIAGNOSTIC: a number that helps to interpret the finding's other scores.
    """

    SHIFT = "shift"
    LEVEL = "level"
    DIAGNOSTIC = "diagnostic"


# How the flag of a check of attributions begins; the name of a model follows, base or tuned.
UNFAITHFUL = "unfaithful:"


@dataclass(frozen=True)
class ScoreFact:
    """What a score means, for reports and leaderboards.

    label: the score's name in words. unit: the unit of the score's value and interval. positive: what a value above 0
    means. zero: what a value of 0 means. kind: what kind of number the score is. signed: whether the score can be below
    0. An angle or a distance cannot: that its interval leaves out 0 is no evidence that tuning changed anything.
    """

    label: str
    unit: str
    positive: str
    zero: str
    kind: Kind = Kind.SHIFT
    signed: bool = True


@dataclass(frozen=True)
class Score:
    """One number of a finding, with its confidence interval.

    A shift is positive where tuning changed the model in the direction that the finding states, and 0 for a model
    compared with itself. The score of a check (attribution_faithfulness) says how right a method is on one model: it is
    above 0 where the method does better than chance.

    finding: the finding's name. name: the score's name, unique within the finding. value: the number. low, high: bounds
    of the confidence interval; for a mean over layers, the smallest and the largest value of a layer. p: of a test of
    whether the value differs from 0; None where no test was done. n: the number of observations that the score is
    computed from; 0 where nothing changed or nothing could be compared.
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
    """A figure as data; the report draws it.

    kind: 'line' (one line for each series, over x), 'bar' (bars grouped by x, one for each series) or 'heat' (a heat
    map with a row for each series and a column for each x, coloured by y). table: a row for each point, bar or cell.
    x, y, series: names of columns of the table. low, high: names of the columns with the bounds of y; None where there
    is no interval. x_label, y_label: the labels of the axes; '' stands for the name of the column on that axis. Line
    and bar charts with equal y_label and `signed` share a scale. signed: whether the chart is of a shift or of the two
    models beside each other. False: it is of a size without a sign, such as an angle; the report sets it apart, and its
    axis begins at 0.
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
    dashed: Sequence[str] = ()  # values of the column `series` that are drawn dashed; in the paper base's
    diverging: bool = False  # whether 0 is in the middle of a heat map's colour scale
    x_label: str = ""
    y_label: str = ""
    signed: bool = True


@dataclass(frozen=True)
class Saliency:
    """One prompt with the importance density of its tokens in both models; the report colours the tokens by it.

    tokens: the prompt's tokens as text. instruction: for each token, whether it is part of the instruction.
    base_density, tuned_density: the density of each token. response: the tuned explanation's response as text.
    base_score, tuned_score: the recognition score of this prompt in each model.
    """

    prompt_id: str
    tokens: Sequence[str]
    instruction: Sequence[bool]
    base_density: Sequence[float]
    tuned_density: Sequence[float]
    response: str
    base_score: float
    tuned_score: float


@dataclass(frozen=True)
class NullScores:
    """The scores of a finding on null models.

    kind: the control's `Control.kind`. draws: the number of null models. values: by the name of a score, its value on
    each null model.
    """

    kind: str
    draws: int
    values: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Result:
    """All that one finding returns for one pair.

    sentence: the result in one plain sentence with its numbers. headline: the name of the score that the sentence is
    about. tables: by name. The table `prompts`, where there is one, has a row for each prompt; where the headline is a
    mean over prompts of tuned minus base, its columns HEADLINE_base and HEADLINE_tuned are the two values of a prompt.
    level: whether the scores are properties of one model, as those of a check are, and not shifts.
    captions: by the name of a table, or by a pattern with `*`, what a row of it is and what its columns mean.
    flags: one-word warnings for lists of runs, for example 'unfaithful:base'. notes: notes for this run's report.
    chosen_method: of a check of attributions, the name of the attribution method that it chose; else ''. unfaithful: of
    such a check, for each method's name the models, 'base' or 'tuned', in which the method was checked and is not shown
    to be faithful.
    nulls: the finding's scores on null models; None where it was scored on none. inapplicable: why the finding's claims
    do not apply to this pair and these prompts; empty where they do.
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
    nulls: NullScores | None = None
    inapplicable: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    chosen_method: str = ""
    unfaithful: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def score(self, name: str) -> Score:
        """The score of that name. Raises StopIteration where the result has none, which is an error of the caller."""
        return next(score for score in self.scores if score.name == name)

    def caption(self, table: str) -> str:
        """What a row of the table is and what its columns mean: the first entry of `captions` whose key matches.

        table: its name. A table on responses of another mode, such as `prompts_own_response`, has the caption of the
        table that it repeats. '' where no key matches.
        """
        plain = re.sub(r"_(shared|own|reference)_response$", "", table)
        return next((text for name, text in self.captions.items() if fnmatch(plain, name)), "")


def no_change(finding: str, name: str) -> Score:
    """A score with value and interval 0, no p and n = 0: it says that nothing changed, or nothing could be compared.

    finding, name: the names of the finding and of the score.
    """
    return Score(finding, name, 0.0, 0.0, 0.0, None, 0)


def all_scores(results: Sequence[Result]) -> list[Score]:
    """The scores of all results as one list: those of the first result first, in each result's order."""
    return [score for result in results for score in result.scores]
