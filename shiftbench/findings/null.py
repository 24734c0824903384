"""A finding's scores beside those of null models, whose weights changed without instruction tuning.

docs/controls.md, 'How to read it'.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from shiftbench.contracts.result import Result, Score
from shiftbench.stats import NullPlace, place_in_null


def beside_null(result: Result, nulls: Sequence[Result], kind: str, confidence: float) -> Result:
    """The result, with tables that place each score among those of the null models, and one more score.

    The sentence says how the headline compares with the null models. nulls: at least one; results of the same finding
    on the same prompts, each with a null model in the tuned model's place. kind: the control's name. The added score,
    HEADLINE_over_null, is that of over_null.
    """
    # The result also has scores on other responses (_own_response); null models are not scored on those.
    controlled = [score for score in result.scores if any(score.name == other.name for other in nulls[0].scores)]
    null_values = {score.name: [null.score(score.name).value for null in nulls] for score in controlled}
    places = {score.name: place_in_null(score.value, null_values[score.name], confidence) for score in controlled}
    rows = [_row(score, places[score.name]) for score in controlled]
    table = pd.DataFrame(rows, columns=["score", "value", "null mean", "null low", "null high", "rank p", "draws"])
    draws = pd.DataFrame({"draw": range(1, len(nulls) + 1), **null_values})
    tables = {**result.tables, f"null_{kind}": table, f"null_{kind}_draws": draws}
    headline = result.score(result.headline)
    over = over_null(headline, places[headline.name])
    return dataclasses.replace(
        result,
        sentence=f"{result.sentence} {_sentence(headline, places[headline.name], kind)}",
        scores=[*result.scores, over],
        tables=tables,
    )


def over_null(score: Score, place: NullPlace) -> Score:
    """The score less the mean of the null models' scores.

    Its interval is the score less the interval of the null models' scores, p is the rank of the score among them, and n
    is their number. A single null model gives no distribution: then the interval is the score's own, less that model's
    score, and p is None.
    """
    name, value = f"{score.name}_over_null", score.value - place.mean
    if score.n == 0:  # the models are equal, so a null model of the same change is equal too
        return Score(score.finding, name, 0.0, 0.0, 0.0, None, 0)
    if place.n == 1:
        return Score(score.finding, name, value, score.low - place.mean, score.high - place.mean, None, 1)
    return Score(score.finding, name, value, score.value - place.high, score.value - place.low, place.p, place.n)


def _row(score: Score, place: NullPlace) -> tuple[object, ...]:
    p = place.p if place.n > 1 else None
    return score.name, score.value, place.mean, place.low, place.high, p, place.n


def _sentence(headline: Score, place: NullPlace, kind: str) -> str:
    if headline.n == 0:
        return "Nothing changed, so there is nothing to control."
    if place.n == 1:
        return f"The control model ({kind}) scores {place.mean:+.2f}."
    beyond = place.p is not None and place.p <= 0.05
    return (
        f"{'More than' if beyond else 'No more than'} a {kind} change of the same size: {place.n} such models score "
        f"{place.mean:+.2f} [{place.low:+.2f}, {place.high:+.2f}] (rank p = {place.p:.2g})."
    )
