"""Figures of published scores: their means, their distributions, and how they depend on the response's length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from shiftbench.contracts.result import Figure
from shiftbench.published.comparable_prompts import MODELS, ComparablePrompt
from shiftbench.published.comparison import VERSIONS, Comparison
from shiftbench.published.scores import FEWEST_PIECES, Metric
from shiftbench.stats import Bootstrap

# Bins of response length, in pieces: [0, 5), [5, 10), ..., and 300 or more.
LENGTH_BINS = (0, 5, 10, 20, 40, 80, 120, 160, 200, 250, 300)
FEWEST_RESPONSES = 5  # a bin of fewer responses is not drawn
CUTS = (5, 10, 20, 35, 50, 75, 100, 150, 200, 300)  # pieces to which both responses of a prompt are cut
BINS = 12  # number of bins of a distribution of scores


def means(comparisons: Sequence[Comparison], bootstrap: Bootstrap) -> Figure:
    """A bar chart of the mean scores with intervals, grouped by version (how much of each response counts).

    comparisons: of one claim. Each prompt set has two series, one for each side of the claim. A side without scores has
    no bar.
    """
    rows = []
    for comparison in comparisons:
        for series, scores in _sides(comparison):
            mean = bootstrap.mean(scores)
            if len(scores):
                rows.append((VERSIONS[comparison.version], series, mean.value, mean.low, mean.high))
    table = pd.DataFrame(rows, columns=["responses", "series", "score", "low", "high"])
    return Figure(
        "means", "Mean recognition score, with and without length control", "bar", table, "responses", "score",
        "series", "low", "high", _lower(comparisons), x_label="how much of each response counts",
        y_label="mean recognition score",
    )  # fmt: skip


def distribution(comparisons: Sequence[Comparison]) -> Figure:
    """A line chart of the distribution of the scores of whole responses, one line for each side and prompt set.

    comparisons: of one claim; those of other versions than 'whole' are ignored. x is the middle of each of BINS equal
    bins from 0 to the largest score of all lines, and y is the share of the side's responses in the bin.
    """
    whole = [comparison for comparison in comparisons if comparison.version == "whole"]
    largest = max(
        (float(scores.max()) for comparison in whole for _, scores in _sides(comparison) if len(scores)), default=0
    )
    edges = np.linspace(0, largest or 1, BINS + 1)
    rows = []
    for comparison in whole:
        for series, scores in _sides(comparison):
            share = np.histogram(scores, edges)[0] / max(len(scores), 1)
            rows += [(series, *point) for point in zip((edges[:-1] + edges[1:]) / 2, share, strict=True)]
    table = pd.DataFrame(rows, columns=["series", "score", "share"])
    return Figure(
        "distribution", "Distribution of the scores of whole responses", "line", table, "score", "share", "series",
        dashed=_lower(whole), x_label="recognition score", y_label="share of responses",
    )  # fmt: skip


def by_length(rows: pd.DataFrame, bootstrap: Bootstrap) -> Figure:
    """A line chart of the mean score of whole responses by response length, one line for each model.

    A model's line is about its own responses. Each point is a bin of LENGTH_BINS, at the mean length of the bin's
    responses; a bin of fewer than FEWEST_RESPONSES responses has no point. rows: the `prompt_scores` of all prompt
    sets, which are taken together.
    """
    found = []
    for model in MODELS:
        for _, part in rows.groupby(np.digitize(rows[f"{model}_pieces"], LENGTH_BINS)):
            if len(part) >= FEWEST_RESPONSES:
                mean = bootstrap.mean(part[f"{model}_whole"])
                length = float(part[f"{model}_pieces"].mean())
                found.append((model, length, mean.value, mean.low, mean.high, len(part)))
    table = pd.DataFrame(found, columns=["model", "pieces", "score", "low", "high", "responses"])
    return Figure(
        "by_length", "Recognition score by response length", "line", table, "pieces", "score", "model", "low",
        "high", ("base",), x_label="response length in pieces (mean of the bin)", y_label="mean recognition score",
    )  # fmt: skip


def by_cut(prompts: Sequence[ComparablePrompt], metric: Metric, bootstrap: Bootstrap) -> Figure:
    """A line chart of the mean score where only the first k pieces of each response count, one line for each model.

    k takes the values of CUTS. All points are means over the same prompts of all prompt sets: those whose responses
    both have at least FEWEST_PIECES pieces. Without such a prompt, the figure's table is empty. A response of fewer
    than k pieces counts whole. Scores are those of `Metric.score_in_double`.
    """
    long = [
        prompt
        for prompt in prompts
        if min(len(prompt.maps[model].response_pieces) for model in MODELS) >= FEWEST_PIECES
    ]
    found = []
    for model in MODELS if long else ():
        for kept in CUTS:
            mean = bootstrap.mean(
                [
                    metric.score_in_double(prompt.maps[model].level_PR[:, :kept], prompt.instruction[model])
                    for prompt in long
                ]
            )
            found.append((model, kept, mean.value, mean.low, mean.high))
    table = pd.DataFrame(found, columns=["model", "pieces", "score", "low", "high"])
    return Figure(
        "by_cut", f"Recognition score of the first k pieces of each response ({len(long)} prompts)", "line", table,
        "pieces", "score", "model", "low", "high", ("base",), x_label="k, the number of response pieces that count",
        y_label="mean recognition score",
    )  # fmt: skip


def _sides(comparison: Comparison) -> Iterator[tuple[str, pd.Series]]:
    """(name of the series, scores) of the lower and then of the higher side; the name is 'PROMPT SET, SIDE'."""
    yield f"{comparison.dataset}, {comparison.claim.lower}", comparison.lower
    yield f"{comparison.dataset}, {comparison.claim.higher}", comparison.higher


def _lower(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """The names of the series that are drawn dashed: those of the sides that the claim says are lower."""
    return tuple({f"{comparison.dataset}, {comparison.claim.lower}": None for comparison in comparisons})
