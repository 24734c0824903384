"""The place of a finding's scores among the scores of null models, whose weights changed without instruction tuning.

docs/controls.md, 'How to read it'.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from shiftbench.contracts.result import Result, Score
from shiftbench.stats import NullPlace, place_in_null


def beside_null(result: Result, nulls: Sequence[Result], kind: str, confidence: float) -> Result:
    """A copy of `result` with two more tables, one more score, and a longer sentence.

    nulls: results of the same finding on the same prompts, each with a null model in the tuned model's place; at least
    one. kind: the control's name. confidence: of the interval of the null models' scores. The table null_KIND places
    each score that the null models have too among theirs; null_KIND_draws has their scores. The added score,
    HEADLINE_over_null, is over_null of the headline. The added sentence compares the headline with the null models.
    """
    # The result may also have scores on responses of another mode, such as recognition_own_response. Null models have
    # no such scores.
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
    """The score NAME_over_null, whose value is the score less the mean of the null models' scores.

    place: the score's place among the null models' scores. The interval is the score less the interval of the null
    models' scores, p is the rank p of the score among them, and n is the number of null models. A single null model
    gives no distribution: then the interval is the bounds of `score` less that model's score, and p is None. A score
    with n = 0 gives value and interval 0, p None and n = 0.
    """
    name, value = f"{score.name}_over_null", score.value - place.mean
    if score.n == 0:  # nothing changed or nothing could be compared, so there is nothing to control
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
