"""What each score of a run means, by finding and score, for the report (`ScoreFact`)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from shiftbench.contracts.finding import Finding
from shiftbench.contracts.result import Result, ScoreFact
from shiftbench.findings.null import excess_name


def facts_of(findings: Iterable[Finding], results: Iterable[Result]) -> dict[str, Mapping[str, ScoreFact]]:
    """For each finding, by its name, the facts of its scores, by the score's name.

    Scores of which their finding says nothing are left out.

    findings: those of the run. results: those of the run; a result of a finding that is not in `findings` is left out.
    The excess of a score over the null models has a fact of its own, because its 0 is the null models' mean and it may
    be negative.
    """
    by_name = {finding.name: finding for finding in findings}
    return {
        result.finding: {
            score.name: _of_variant(fact, score.name)
            for score in result.scores
            if (fact := by_name[result.finding].fact(score.name)) is not None
        }
        for result in results
        if result.finding in by_name
    }


def _of_variant(fact: ScoreFact, score: str) -> ScoreFact:
    """The fact of `score`, whose name may end in `_MODE_response` or `_over_null`. fact: of the name without these.

    Each of these endings adds to the label. `_over_null` also replaces what a positive score and what 0 means, and the
    chart is then signed.
    """
    mode = re.search(r"_(shared|own|reference)_response$", score)
    if mode:
        fact = dataclasses.replace(fact, label=f"{fact.label}, on {mode[1]} responses")
    if excess_name("") not in score:
        return fact
    return dataclasses.replace(
        fact,
        label=f"{fact.label}, excess over the null models",
        positive="the tuned model's score lies above the mean score of the null models",
        zero="the tuned model scores as the null models do on average",
        signed=True,
    )
