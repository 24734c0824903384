"""Chooses the attribution method of findings that leave it open (`method=auto`), before they are scored.

The check of the attributions chooses it: the cheapest of its methods that is faithful in both models. The prompts on
which it was chosen are left out of the findings that use it, so that a method is never judged and used on one prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shiftbench.contracts.finding import Finding
from shiftbench.contracts.result import Result
from shiftbench.errors import InputError
from shiftbench.explain.attribution import Attribution
from shiftbench.findings.attribution_faithfulness import AttributionFaithfulness
from shiftbench.pipeline.encoding import EncodedPrompts
from shiftbench.pipeline.job import Job
from shiftbench.pipeline.scoring import score
from shiftbench.pipeline.session import Session


def check_choice(job: Job) -> None:
    """Raise InputError where a finding leaves its attribution method open and no finding of the job chooses one.

    So does a check of all prompts, which leaves none to use the method on.
    """
    key, check = _check_of(job.findings)
    for name in _open(job.findings):
        if check is None:
            raise InputError(
                f"findings.{name}.explain.method=auto needs the finding attribution_faithfulness, which chooses the "
                "method; add +finding@findings.attribution_faithfulness=attribution_faithfulness, or name a method, "
                f"for example findings.{name}.explain.method=occlusion:mean"
            )
        most = check.explain.prompts
        if most is None or most >= len(job.prompts):
            raise InputError(
                f"findings.{name}.explain.method=auto leaves out the prompts on which the method is chosen, and "
                f"findings.{key}.explain.prompts={'null' if most is None else most} takes all {len(job.prompts)}; set "
                f"it lower, or name a method, for example findings.{name}.explain.method=occlusion:mean"
            )


def choose_method(session: Session, encoded: EncodedPrompts) -> tuple[Session, Mapping[str, Result]]:
    """(the session with each open method chosen, results by the key of the finding that was scored for it).

    The session is the same, and there are no results, where no method is open. encoded: the job's prompts.
    """
    findings = session.job.findings
    key, check = _check_of(findings)
    if check is None or not _open(findings):
        return session, {}
    result = score(session, check, encoded)
    method = next(each for each in check.explain.attributions if each.name == result.chosen_method)
    judged = frozenset(result.tables["prompts"]["prompt"])
    found: dict[str, Finding] = {
        name: _with_explainer(finding, finding.explain.chosen(method, judged))
        if isinstance(finding.explain, Attribution) and finding.explain.is_open
        else finding
        for name, finding in findings.items()
    }
    left = len(session.job.prompts) - len(judged)
    session.gatherer.notes.append(
        f"Attributions are by {method.name}, which {key} chose on {len(judged)} prompts; they are used on the other "
        f"{left}."
    )
    return replace(session, job=replace(session.job, findings=found)), {key: result}


def _check_of(findings: Mapping[str, Finding]) -> tuple[str, AttributionFaithfulness | None]:
    """(key, finding) of the check of attributions; ('', None) where there is none."""
    checks = ((key, one) for key, one in findings.items() if isinstance(one, AttributionFaithfulness))
    return next(checks, ("", None))


def _open(findings: Mapping[str, Finding]) -> dict[str, Finding]:
    """The findings whose attribution method is still to be chosen, by their keys."""
    return {key: one for key, one in findings.items() if isinstance(one.explain, Attribution) and one.explain.is_open}


def _with_explainer(finding: Any, explain: Attribution) -> Finding:
    """The finding, which is a dataclass, with another explainer."""
    changed: Finding = replace(finding, explain=explain)
    return changed
