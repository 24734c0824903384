"""The first screen of the report: the verdicts, what was compared, when and by which command, and one prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from shiftbench.contracts.result import Result, Saliency
from shiftbench.report.numbers import number, p_value
from shiftbench.verdicts import Verdict, Word
from shiftbench.verdicts.sentences import command, interval, null_models, null_of_run

SIGNS = {  # before the word of a verdict, on the page and on the terminal
    Word.SUPPORTED: "+",
    Word.OPPOSITE: "-",
    Word.NOT_CLEAR: "?",
    Word.NOT_TRUSTWORTHY: "!",
    Word.NOT_APPLICABLE: " ",
}


@dataclass(frozen=True)
class VerdictCard:
    """A verdict as the first screen shows it, all of it text.

    finding: the finding's name. sign, word: of the verdict. claim: in few words. headline: value and interval, or ''
    where the claim does not apply. basis: the score's name, n and what it counts, and the corrected p if there was a
    test; '' where the claim does not apply. reasons: the weightiest first. detectable: a sentence with the smallest
    effect that the run would have found with a probability of 80%; '' where that is unknown, and for other words than
    `not clear`. next: the command that may help to decide; '' where there is none.
    """

    finding: str
    sign: str
    word: str
    claim: str
    headline: str
    basis: str
    reasons: Sequence[str]
    detectable: str
    next: str


@dataclass(frozen=True)
class Example:
    """The prompt of the first screen. rule: how it was chosen, in sentences."""

    saliency: Saliency
    rule: str


def cards(verdicts: Sequence[Verdict], given: Sequence[str]) -> list[VerdictCard]:
    """A card for each verdict, in order.

    given: the overrides of the command line that made the run; the cards' commands are made from them (`command`).
    """
    return [_card(verdict, given) for verdict in verdicts]


def _card(verdict: Verdict, given: Sequence[str]) -> VerdictCard:
    applies, score = verdict.word is not Word.NOT_APPLICABLE, verdict.headline
    p = p_value(verdict.evidence.p)
    basis = [score.name, f"{number(score.n)} {verdict.claim.observations}", *([f"corrected p = {p}"] if p else [])]
    return VerdictCard(
        finding=score.finding,
        sign=SIGNS[verdict.word],
        word=verdict.word.value,
        claim=verdict.claim.short,
        headline=interval(score) if applies else "",
        basis=", ".join(basis) if applies else "",
        reasons=verdict.reasons,
        detectable=_detectable(verdict),
        next=(command(given, verdict.remedy) or "") if not verdict.word.decided else "",
    )


def _detectable(verdict: Verdict) -> str:
    if verdict.word is not Word.NOT_CLEAR or verdict.detectable is None:
        return ""
    return f"This run would have found an effect of {number(verdict.detectable)} with a probability of 80%."


def conditions(pair: Mapping[str, Any], verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    """(name, value) of the pair, the prompts, the suite and the control, as text. What is not recorded is left out.

    The value of the prompts is the number of explained prompts, or of all prompts where the former is not recorded; the
    data set's name follows where it is known, as '60 of NAME'. The control is that of the first verdict with null
    models, or else `pair`'s. pair, verdicts: of RunSummary.
    """
    counts = [pair.get("prompts_explained"), pair.get("prompts")]
    prompts = next((f"{count:,}" for count in counts if isinstance(count, int)), None)
    if prompts is not None and pair.get("dataset"):
        prompts += f" of {pair['dataset']}"
    control = _control(pair, verdicts)
    found = {"pair": pair.get("name"), "prompts": prompts, "suite": pair.get("suite"), "control": control}
    return [(name, str(value)) for name, value in found.items() if value is not None]


def _control(pair: Mapping[str, Any], verdicts: Sequence[Verdict]) -> str | None:
    null = null_of_run(verdicts)
    if null is not None:
        return null_models(null)
    kind = pair.get("control")
    return None if kind is None else str(kind)


def day_and_time(finished: datetime | None) -> str:
    """The time in UTC, such as '2026-03-01 14:05 UTC'; '' where it is not recorded. A time without a zone is local."""
    return "" if finished is None else f"{finished.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def example(results: Sequence[Result]) -> Example | None:
    """The prompt that the first screen shows token by token; None where no result has prompts to show.

    It is a prompt of the first result that has prompts to show: the one whose recognition score changed most from base
    to tuned in the direction of that result's headline (upward where the headline is 0 or missing); the first one of
    several with an equal change. Prompts whose scores are not finite are chosen last.
    """
    result = next((result for result in results if result.saliency), None)
    if result is None:
        return None
    head = next((score.value for score in result.scores if score.name == result.headline), 0.0)
    direction = -1 if head < 0 else 1
    chosen = max(result.saliency, key=lambda item: _change(item, direction))
    return Example(chosen, f"{_rule(len(result.saliency), head)} It is an example: the verdicts rest on all prompts.")


def _rule(shown: int, head: float) -> str:
    if shown == 1:
        return "The prompt that is shown token by token."
    verb = "falls" if head < 0 else "rises"
    why = f", as the mean over all prompts {verb}" if head else ""
    return f"Of the {shown} prompts that are shown token by token, the one whose recognition score {verb} most{why}."


def _change(item: Saliency, direction: int) -> float:
    change = direction * (item.tuned_score - item.base_score)
    return change if math.isfinite(change) else -math.inf
