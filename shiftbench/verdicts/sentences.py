"""Verdicts as sentences and as the object `verdicts` of scores.json, and the commands that may help to decide them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from shiftbench.contracts.result import Score
from shiftbench.verdicts.decision import Null, Remedy, Verdict, Word, bounds, by_claim, deciding_p


def sentence(verdict: Verdict) -> str:
    """The verdict in one sentence, with the headline's value and interval unless the claim does not apply.

    A verdict that is not clear also has its reasons, and the effect that the run would have found, if that is known.
    One that is not trustworthy or does not apply has its first reason, and a decided one the null models' scores.
    """
    claim, evidence = verdict.claim, verdict.evidence
    statement = _upper_first(claim.statement)
    if verdict.word is Word.NOT_APPLICABLE:
        return f"The claim that {claim.statement} does not apply: {verdict.reasons[0]}."
    numbers = f"{interval(verdict.headline)} over {verdict.headline.n} {claim.observations}"
    if verdict.word is Word.NOT_TRUSTWORTHY:
        return f"Whether {claim.statement} cannot be said: {verdict.reasons[0]} ({numbers})."
    if verdict.word is Word.NOT_CLEAR:
        return f"Whether {claim.statement} is not clear: {numbers}; {'; '.join(verdict.reasons)}{_detectable(verdict)}."
    said = statement if verdict.word is Word.SUPPORTED else _upper_first(claim.opposite)
    return f"{said}: {numbers}{_beyond(verdict, evidence.null)}."


def interval(score: Score) -> str:
    """A score's value and interval, for example '+0.307 [+0.193, +0.417]'."""
    return f"{score.value:+.3f} {bounds(score)}"


def null_of_run(verdicts: Sequence[Verdict]) -> Null | None:
    """The null models that are named for a whole run: those of the first verdict that has any; None without any."""
    return next((verdict.evidence.null for verdict in verdicts if verdict.evidence.null is not None), None)


def null_models(null: Null) -> str:
    """How many null models there are, and of which kind, for example '39 permuted null models'."""
    return f"{null.draws} {null.kind} null model{'s' * (null.draws > 1)}"


def command_line(given: Sequence[str]) -> str:
    """`shiftbench score` with these overrides, ready for a shell; '' where `given` is empty."""
    return shlex.join(["shiftbench", "score", *given]) if given else ""


def command(given: Sequence[str], remedy: Remedy | None) -> str | None:
    """The command that may help to decide: the remedy's own, or `shiftbench score` with the overrides that were given
    and then the remedy's. None without a remedy, and where neither has an override.

    given: the arguments of `shiftbench score`, for example ['pair=demo', 'suite=demo']. Those that set an option which
    the remedy sets are left out, and so are the options of a group that it chooses, such as control.draws where it has
    control=permuted.
    """
    if remedy is None:
        return None
    if remedy.command:
        return remedy.command
    keys = [override.partition("=")[0] for override in remedy.overrides]
    kept = [
        argument
        for argument in given
        if not any(argument.partition("=")[0] == key or argument.startswith(f"{key}.") for key in keys)
    ]
    return command_line([*kept, *remedy.overrides]) or None


def fields(verdicts: Sequence[Verdict], given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The verdicts as the object `verdicts` of scores.json, by the names of `by_claim`. given: as in `command`."""
    return {
        name: {
            "verdict": verdict.word.value,
            "claim": verdict.claim.statement,
            "short": verdict.claim.short,
            "headline": verdict.headline.name,
            "value": verdict.headline.value,
            "low": verdict.headline.low,
            "high": verdict.headline.high,
            "p": verdict.evidence.p,
            "p_uncorrected": deciding_p(verdict.claim, verdict.evidence.score, verdict.evidence.excess),
            "n": verdict.headline.n,
            "null": None if verdict.evidence.null is None else vars(verdict.evidence.null),
            "reasons": list(verdict.reasons),
            "sentence": sentence(verdict),
            "detectable": verdict.detectable,
            "next": command(given, verdict.remedy),
        }
        for name, verdict in by_claim(verdicts).items()
    }


def _beyond(verdict: Verdict, null: Null | None) -> str:
    if null is None:
        return ""
    relation = "more" if verdict.word is Word.SUPPORTED else "less"
    changes = f"{null.draws} {null.kind} changes of the same size, which score {null.mean:+.3f} {bounds(null)}"
    return f", {relation} than {changes}"


def _detectable(verdict: Verdict) -> str:
    if verdict.detectable is None:
        return ""
    return f" (the run would have found {verdict.detectable:.3f} with a probability of 80%)"


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]
