"""Pictures of published scores: their means, their distributions, and how they hang on the response's length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from shiftbench.contracts.result import Figure
from shiftbench.published.asked import MODELS, Asked
from shiftbench.published.comparison import VERSIONS, Comparison
from shiftbench.published.scores import SHORTEST, Metric
from shiftbench.stats import Bootstrap

LENGTHS = (0, 5, 10, 20, 40, 80, 120, 160, 200, 250, 300)  # response pieces: [from, to) of the bins, the last open
FEWEST = 5  # responses of a bin that is drawn
KEPT = (5, 10, 20, 35, 50, 75, 100, 150, 200, 300)  # response pieces to which both responses are cut
BINS = 12  # of a distribution


def means(comparisons: Sequence[Comparison], bootstrap: Bootstrap) -> Figure:
    """Bars of both sides' mean scores with intervals, by how much of the responses counts."""
    rows = []
    for one in comparisons:
        for series, scores in _sides(one):
            mean = bootstrap.mean(scores)
            if len(scores):
                rows.append((VERSIONS[one.version], series, mean.value, mean.low, mean.high))
    table = pd.DataFrame(rows, columns=["responses", "series", "score", "low", "high"])
    return Figure(
        "means", "Mean recognition score, with and without length control", "bar", table, "responses", "score",
        "series", "low", "high", _lower(comparisons), x_label="how much of each response counts",
        y_label="mean recognition score",
    )  # fmt: skip


def distribution(comparisons: Sequence[Comparison]) -> Figure:
    """The share of whole responses by score, one line a side and prompt set, all on the same bins."""
    whole = [one for one in comparisons if one.version == "whole"]
    largest = max((float(scores.max()) for one in whole for _, scores in _sides(one) if len(scores)), default=0)
    edges = np.linspace(0, largest or 1, BINS + 1)
    rows = []
    for one in whole:
        for series, scores in _sides(one):
            share = np.histogram(scores, edges)[0] / max(len(scores), 1)
            rows += [(series, *point) for point in zip((edges[:-1] + edges[1:]) / 2, share, strict=True)]
    table = pd.DataFrame(rows, columns=["series", "score", "share"])
    return Figure(
        "distribution", "Scores of whole responses", "line", table, "score", "share", "series",
        dashed=_lower(whole), x_label="recognition score", y_label="share of responses",
    )  # fmt: skip


def by_length(rows: pd.DataFrame, bootstrap: Bootstrap) -> Figure:
    """Mean score of whole responses by their length, all prompt sets together."""
    found = []
    for model in MODELS:
        for _, part in rows.groupby(np.digitize(rows[f"{model}_pieces"], LENGTHS)):
            if len(part) >= FEWEST:
                mean = bootstrap.mean(part[f"{model}_whole"])
                length = float(part[f"{model}_pieces"].mean())
                found.append((model, length, mean.value, mean.low, mean.high, len(part)))
    table = pd.DataFrame(found, columns=["model", "pieces", "score", "low", "high", "responses"])
    return Figure(
        "by_length", "Recognition by the length of the response", "line", table, "pieces", "score", "model", "low",
        "high", ("base",), x_label="response pieces (mean of a bin)", y_label="mean recognition score",
    )  # fmt: skip


def by_cut(asked: Sequence[Asked], metric: Metric, bootstrap: Bootstrap) -> Figure:
    """Mean score of the same prompts with both responses cut to their first k pieces, all prompt sets together."""
    long = [one for one in asked if min(len(one.maps[model].response_pieces) for model in MODELS) >= SHORTEST]
    found = []
    for model in MODELS if long else ():
        for kept in KEPT:
            mean = bootstrap.mean(
                [metric.score_in_double(one.maps[model].level_PR[:, :kept], one.instruction[model]) for one in long]
            )
            found.append((model, kept, mean.value, mean.low, mean.high))
    table = pd.DataFrame(found, columns=["model", "pieces", "score", "low", "high"])
    return Figure(
        "by_cut", f"Recognition when only the first k pieces of a response count ({len(long)} prompts)", "line", table,
        "pieces", "score", "model", "low", "high", ("base",), x_label="k, response pieces that count",
        y_label="mean recognition score",
    )  # fmt: skip


def _sides(one: Comparison) -> Iterator[tuple[str, pd.Series]]:
    yield f"{one.dataset}, {one.claim.lower}", one.lower
    yield f"{one.dataset}, {one.claim.higher}", one.higher


def _lower(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """The series drawn dashed: those that the claim says are lower."""
    return tuple({f"{one.dataset}, {one.claim.lower}": None for one in comparisons})
