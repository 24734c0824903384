"""The place of a finding's scores among the scores of null models, whose weights changed without instruction tuning.

docs/controls.md, 'How to read it'.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.result import NullScores, Result, Score, no_change
from shiftbench.stats import NullPlace, excess_over_null, place_in_null

CAPTIONS = {
    "null_*_draws": (
        "One row is one null model. The columns have its scores, computed with the null model in the tuned model's "
        "place."
    ),
    "null_*": (
        "One row is one score. The columns have its value on the tuned model, the mean of the null models' scores, "
        "the interval or range of these, and the rank p: the share of models, the tuned one counted, that score "
        "at least as high."
    ),
}


def beside_null(
    result: Result, nulls: Sequence[Mapping[str, float]], kind: str, confidence: float, claims: Sequence[Claim]
) -> Result:
    """The result with the scores of null models, and with the excess of its headline and of each claimed score.

    A score that the null models lack stays without an excess. nulls: at least one; for each null model, the values of
    the finding's scores by name (`Finding.null_values`), on the same prompts. kind: of the null models. confidence: of
    the intervals. claims: the finding's claims.

    The added scores are those of `excess_score`. The table null_KIND places each score that the null models have too
    among theirs, and null_KIND_draws has each null model's scores.
    """
    # The result may also have scores that null models lack, such as those on responses of another mode.
    controlled = [score for score in result.scores if score.name in nulls[0]]
    values = {score.name: tuple(null[score.name] for null in nulls) for score in controlled}
    rows = [_row(score, place_in_null(score.value, values[score.name], confidence)) for score in controlled]
    table = pd.DataFrame(rows, columns=["score", "value", "null mean", "null low", "null high", "rank p", "draws"])
    draws = pd.DataFrame({"draw": range(1, len(nulls) + 1), **values})
    claimed = dict.fromkeys([result.headline, *(claim.score for claim in claims)])
    excesses = [excess_score(score, values[score.name], confidence) for score in controlled if score.name in claimed]
    return dataclasses.replace(
        result,
        scores=[*result.scores, *excesses],
        tables={**result.tables, f"null_{kind}": table, f"null_{kind}_draws": draws},
        nulls=NullScores(kind, len(nulls), values),
        captions={**result.captions, **CAPTIONS},
    )


def excess_score(score: Score, null_values: Sequence[float], confidence: float) -> Score:
    """The score less the mean of the null models' scores, named SCORE_over_null (`excess_over_null`).

    n is the score's own. Where the score has n = 0, the excess is `no_change`.
    """
    name = excess_name(score.name)
    if score.n == 0:
        return no_change(score.finding, name)
    excess = excess_over_null(score.value, score.low, score.high, score.n, null_values, confidence)
    return Score(score.finding, name, excess.value, excess.low, excess.high, excess.p, score.n)


def excess_name(score: str) -> str:
    """The name of a score's excess over the null models."""
    return f"{score}_over_null"


def _row(score: Score, place: NullPlace) -> tuple[object, ...]:
    p = place.p if place.n > 1 else None
    return score.name, score.value, place.mean, place.low, place.high, p, place.n
