"""A finding's scores beside those of null models, which any change of the same size would give (docs/controls.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pandas as pd

from shiftbench.contracts.result import Result, Score
from shiftbench.stats import NullPlace, place_in_null


def beside_null(result: Result, nulls: Sequence[Result], kind: str, confidence: float) -> Result:
    """The result with a table of every score's place among the null models', and one more score, HEADLINE_over_null.

    nulls: the same finding on the same prompts, a null model in the tuned one's place each. The added score is the
    headline less the null's mean; its interval is the headline less the null's interval, p the rank of the headline
    among the draws, n the draws. Of a single null model there is no distribution: the interval is the headline's own,
    less that model's value, and p is None.
    """
    # Scores on other responses stand beside the main ones in the result, and in no null.
    controlled = [score for score in result.scores if any(score.name == other.name for other in nulls[0].scores)]
    drawn = {score.name: [null.score(score.name).value for null in nulls] for score in controlled}
    places = {score.name: place_in_null(score.value, drawn[score.name], confidence) for score in controlled}
    rows = [_row(score, places[score.name]) for score in controlled]
    table = pd.DataFrame(rows, columns=["score", "value", "null mean", "null low", "null high", "rank p", "draws"])
    draws = pd.DataFrame({"draw": range(1, len(nulls) + 1), **drawn})
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
    """What a score exceeds its null by."""
    name, value = f"{score.name}_over_null", score.value - place.mean
    if score.n == 0:  # nothing changed, so no null model differs from it
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
