"""Each claim as a Result: what the paper says, what we find, and what is left once responses are equally long."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from shiftbench import ops
from shiftbench.contracts.result import Figure, Result, Saliency, Score, no_change
from shiftbench.findings.instruction_recognition import InstructionRecognition, recognition_score
from shiftbench.published import pictures
from shiftbench.published.alignment import piece_bytes, piece_texts
from shiftbench.published.asked import MODELS, Asked
from shiftbench.published.comparison import ALPHA, VERSIONS, Comparison
from shiftbench.published.tables import Names, long
from shiftbench.report.text import number, p_value
from shiftbench.stats import Bootstrap

SAID = {
    "table1": "the tuned model uses instruction words more densely where it follows the instruction",
    "table2": "the tuned model uses instruction words more densely than the base model",
}


def result(
    comparisons: Sequence[Comparison],
    names: Names,
    bootstrap: Bootstrap,
    tables: dict[str, pd.DataFrame],
    figures: Sequence[Figure] = (),
    saliency: Sequence[Saliency] = (),
) -> Result:
    """The result of one claim's comparisons. tables, figures, saliency: what is shown after its own."""
    claim = comparisons[0].claim
    scores = [_score(one, bootstrap) for one in comparisons]
    return Result(
        finding=claim.table,
        headline=scores[0].name,
        sentence=_sentence(comparisons),
        scores=scores,
        tables={"side_by_side": side_by_side(comparisons), "numbers": long(comparisons, names), **tables},
        figures=[pictures.means(comparisons, bootstrap), pictures.distribution(comparisons), *figures],
        saliency=saliency,
    )


def side_by_side(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A row a prompt set: the paper's claim, then our means, p and verdict in each version."""
    rows: dict[str, dict[str, str]] = {}
    for one in comparisons:
        claim = f"{one.claim.lower} < {one.claim.higher}"
        row = rows.setdefault(one.dataset, {"prompt set": one.dataset, "the paper's claim": claim})
        row[VERSIONS[one.version]] = _told(one)
    return pd.DataFrame(list(rows.values()))


def saliency(asked: Sequence[Asked], finding: InstructionRecognition) -> list[Saliency]:
    """The prompts with the longest responses of tuned, among those that both models read as the same pieces."""
    alike = [one for one in asked if one.maps["base"].prompt_pieces == one.maps["tuned"].prompt_pieces]
    alike.sort(key=lambda one: -len(one.maps["tuned"].response_pieces))
    shown = []
    for one in alike[: finding.saliency]:
        density = {
            model: ops.importance_density(one.maps[model].level_PR, cutoff=finding.cutoff, p=finding.p)
            for model in MODELS
        }
        score = {model: recognition_score(density[model], one.instruction[model]) for model in MODELS}
        tokens = piece_texts(one.maps["tuned"].prompt_pieces)
        response = b"".join(map(piece_bytes, one.maps["tuned"].response_pieces)).decode("utf-8", "replace")
        shown.append(
            Saliency(
                one.prompt.id, tokens, one.instruction["tuned"].tolist(), density["base"].tolist(),
                density["tuned"].tolist(), response, score["base"], score["tuned"],
            )
        )  # fmt: skip
    return shown


def _told(one: Comparison) -> str:
    if one.welch is None:
        return f"no test (n = {one.observations})"
    paired = f" (paired {p_value(one.paired.p)})" if one.paired else ""
    means = f"{number(float(one.lower.mean()))} against {number(float(one.higher.mean()))}"
    return f"{means}, p {p_value(one.welch.p)}{paired}: {one.verdict}"


def _score(one: Comparison, bootstrap: Bootstrap) -> Score:
    name, interval = f"{one.dataset}_{one.version}", one.difference(bootstrap)
    if one.welch is None:
        return no_change(one.claim.table, name)
    return Score(one.claim.table, name, interval.value, interval.low, interval.high, one.welch.p, one.observations)


def _sentence(comparisons: Sequence[Comparison]) -> str:
    sets = len({one.dataset for one in comparisons})
    holds = _counts(comparisons, lambda one: one.verdict == "holds")
    told = [f"{count} with {words}" for count, words in zip(holds, VERSIONS.values(), strict=True)]
    sentence = f"The paper says that {SAID[comparisons[0].claim.table]}. Of {sets} prompt sets, that holds by the "
    sentence += f"paper's unpaired test in {', '.join(told)}"
    if not comparisons[0].claim.paired:
        return f"{sentence}."
    paired = _counts(comparisons, lambda one: one.paired is not None and one.paired.p < ALPHA)
    told = [f"{count} with {words}" for count, words in zip(paired, VERSIONS.values(), strict=True)]
    return f"{sentence}; by a test that pairs the prompts in {', '.join(told)}."


def _counts(comparisons: Sequence[Comparison], holds: Callable[[Comparison], bool]) -> list[int]:
    """In how many prompt sets, version by version."""
    return [sum(holds(one) for one in comparisons if one.version == version) for version in VERSIONS]
