"""Each claim of the paper as a Result: the claim, what we compute, and what remains with responses cut short."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from shiftbench import ops
from shiftbench.contracts.result import Figure, Result, Saliency, Score, no_change
from shiftbench.findings.instruction_recognition import InstructionRecognition, recognition_score
from shiftbench.published import figures as charts
from shiftbench.published.alignment import piece_bytes, piece_texts
from shiftbench.published.comparable_prompts import MODELS, ComparablePrompt
from shiftbench.published.comparison import ALPHA, VERSIONS, Comparison
from shiftbench.published.tables import Names, as_rows
from shiftbench.report.numbers import number, p_value
from shiftbench.stats import Bootstrap

CLAIM_TEXTS = {
    "table1": "the tuned model has a higher recognition score where its response follows the instruction",
    "table2": "the tuned model has a higher recognition score than the base model",
}


CAPTIONS = {
    "side_by_side": (
        "One row is one set of prompts. The columns have the paper's claim, and our means, p and outcome for whole "
        "responses and for responses of equal length."
    ),
    "numbers": (
        "One row is one comparison on one set of prompts. The columns have both means, their standard deviations, "
        "and the tests."
    ),
    "prompts": "One row is one published prompt. The columns have its set, its rating and its recognition scores.",
    "unaligned": (
        "One row is one text that could not be found among the published tokens. The columns say where it stands, "
        "and whether its prompt is left out."
    ),
}


def result(
    comparisons: Sequence[Comparison],
    names: Names,
    bootstrap: Bootstrap,
    tables: dict[str, pd.DataFrame],
    figures: Sequence[Figure] = (),
    saliency: Sequence[Saliency] = (),
) -> Result:
    """The result of one claim, with a score for each of its comparisons; the first one's score is the headline.

    comparisons: all those of the claim, at least one. names: the models' names in the table `numbers`. tables, figures:
    further ones, shown after those of the claim. saliency: the prompts whose tokens are shown.
    """
    claim = comparisons[0].claim
    scores = [_score(comparison, bootstrap) for comparison in comparisons]
    return Result(
        finding=claim.table,
        captions=CAPTIONS,
        headline=scores[0].name,
        sentence=_sentence(comparisons),
        scores=scores,
        tables={"side_by_side": side_by_side(comparisons), "numbers": as_rows(comparisons, names), **tables},
        figures=[charts.means(comparisons, bootstrap), charts.distribution(comparisons), *figures],
        saliency=saliency,
    )


def side_by_side(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A table with one row for each prompt set: the paper's claim, then our means, p and verdict in each version."""
    rows: dict[str, dict[str, str]] = {}
    for comparison in comparisons:
        claim = f"{comparison.claim.lower} < {comparison.claim.higher}"
        row = rows.setdefault(comparison.dataset, {"prompt set": comparison.dataset, "the paper's claim": claim})
        row[VERSIONS[comparison.version]] = _outcome(comparison)
    return pd.DataFrame(list(rows.values()))


def saliency(prompts: Sequence[ComparablePrompt], finding: InstructionRecognition) -> list[Saliency]:
    """The prompts whose tokens the page shows, with their densities and recognition scores in both models.

    Of the prompts that both models split into the same pieces, they are those with the longest responses of the tuned
    model: as many as `finding.saliency` says, or all; the longest first, ties in the order of `prompts`. Densities are
    over each model's whole response, by ops.importance_density. The scores therefore differ in the last digits from
    those of `Metric.score` in the tables, which rounds as the paper's code does.
    """
    same_pieces = [
        prompt for prompt in prompts if prompt.maps["base"].prompt_pieces == prompt.maps["tuned"].prompt_pieces
    ]
    same_pieces.sort(key=lambda prompt: -len(prompt.maps["tuned"].response_pieces))
    shown = []
    for prompt in same_pieces[: finding.saliency]:
        density = {
            model: ops.importance_density(prompt.maps[model].level_PR, cutoff=finding.cutoff, p=finding.p)
            for model in MODELS
        }
        score = {model: recognition_score(density[model], prompt.instruction[model]) for model in MODELS}
        tokens = piece_texts(prompt.maps["tuned"].prompt_pieces)
        response = b"".join(map(piece_bytes, prompt.maps["tuned"].response_pieces)).decode("utf-8", "replace")
        shown.append(
            Saliency(
                prompt.prompt.id, tokens, prompt.instruction["tuned"].tolist(), density["base"].tolist(),
                density["tuned"].tolist(), response, score["base"], score["tuned"],
            )
        )  # fmt: skip
    return shown


def _outcome(comparison: Comparison) -> str:
    """The text of a table's cell: the means of both sides, the p-values and the verdict; or that there was no test."""
    if comparison.welch is None:
        return f"no test (n = {comparison.observations})"
    paired = f" (paired {p_value(comparison.paired.p)})" if comparison.paired else ""
    means = f"{number(float(comparison.lower.mean()))} versus {number(float(comparison.higher.mean()))}"
    return f"{means}, p {p_value(comparison.welch.p)}{paired}: {comparison.verdict}"


def _score(comparison: Comparison, bootstrap: Bootstrap) -> Score:
    """mean(higher) - mean(lower) as a score, with p of the one-sided Welch test and `observations` as n.

    Where there is no such test, the score is 0 with n = 0.
    """
    name, interval = f"{comparison.dataset}_{comparison.version}", comparison.difference(bootstrap)
    if comparison.welch is None:
        return no_change(comparison.claim.table, name)
    return Score(
        comparison.claim.table,
        name,
        interval.value,
        interval.low,
        interval.high,
        comparison.welch.p,
        comparison.observations,
    )


def _sentence(comparisons: Sequence[Comparison]) -> str:
    sets = len({comparison.dataset for comparison in comparisons})
    holds = _counts(comparisons, lambda comparison: comparison.verdict == "holds")
    counts = [f"{count} with {words}" for count, words in zip(holds, VERSIONS.values(), strict=True)]
    sentence = f"The paper says that {CLAIM_TEXTS[comparisons[0].claim.table]}. Of {sets} "
    sentence += f"prompt sets, this holds in the following numbers: by the paper's unpaired test, {', '.join(counts)}"
    if not comparisons[0].claim.paired:
        return f"{sentence}."
    paired = _counts(comparisons, lambda comparison: comparison.paired is not None and comparison.paired.p < ALPHA)
    counts = [f"{count} with {words}" for count, words in zip(paired, VERSIONS.values(), strict=True)]
    return f"{sentence}; by a test that pairs the prompts, {', '.join(counts)}."


def _counts(comparisons: Sequence[Comparison], holds: Callable[[Comparison], bool]) -> list[int]:
    """The number of prompt sets whose comparison makes `holds` true, for each version in the order of VERSIONS."""
    return [
        sum(holds(comparison) for comparison in comparisons if comparison.version == version) for version in VERSIONS
    ]
