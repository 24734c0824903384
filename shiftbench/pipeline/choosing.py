"""Chooses the attribution method of findings that leave it open (`method=auto`), before they are scored.

The check of the attributions chooses it: the cheapest of its methods that is faithful in both models. The prompts on
which it was chosen are left out of the findings that use it, so that a method is never judged and used on one prompt.
Where no method is shown to be faithful, the best one is used on all prompts, and the verdict is `not trustworthy`.
Without a check the paper's method is used, and the verdict says that the attributions were not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shiftbench.contracts.finding import Finding
from shiftbench.contracts.result import Result
from shiftbench.explain.attribution import Attribution
from shiftbench.explain.importance import Definition, Options
from shiftbench.explain.methods import AttributionMethod
from shiftbench.findings.attribution_faithfulness import FEWEST_PROMPTS, AttributionFaithfulness
from shiftbench.pipeline.encoding import EncodedPrompts
from shiftbench.pipeline.scoring import score
from shiftbench.pipeline.session import Session

# The method that findings use where nothing in the job checks attributions.
UNCHECKED = AttributionMethod(Definition.GRAD_X_INPUT, Options())


def choose_method(session: Session, encoded: EncodedPrompts) -> tuple[Session, Mapping[str, Result]]:
    """(the session with each open method chosen, results by the key of the finding that was scored for it).

    The session is the same, and there are no results, where no method is open. encoded: the job's prompts.
    """
    findings = session.job.findings
    key, check = _check_of(findings)
    if not _open(findings):
        return session, {}
    if check is None:
        note = f"Attributions are by {UNCHECKED.name}, the paper's method, and nothing checks them."
        return _with_method(session, UNCHECKED, frozenset(), note), {}
    result = _judge(session, check, encoded)
    method = next(each for each in check.explain.attributions if each.name == result.chosen_method)
    judged = frozenset(result.tables["prompts"]["prompt"])
    if result.unfaithful[method.name]:
        note = (
            f"Attributions are by {method.name}, the best of {len(check.explain.methods)} methods on {len(judged)} "
            "prompts; none of them is shown to be faithful in both models."
        )
        return _with_method(session, method, frozenset(), note), {key: result}
    note = (
        f"Attributions are by {method.name}, which {key} chose on {len(judged)} prompts; findings use it on the others."
    )
    return _with_method(session, method, judged, note), {key: result}


def _with_method(session: Session, method: AttributionMethod, leaves_out: frozenset[str], note: str) -> Session:
    """The session, in which findings with an open method use this one. note: for the report."""
    findings = dict(session.job.findings)
    for key, explain in _open(findings).items():
        # Every finding is a dataclass, which the type Finding does not say.
        findings[key] = replace(findings[key], explain=explain.chosen(method, leaves_out))  # type: ignore[type-var]
    session.gatherer.notes.append(note)
    return replace(session, job=replace(session.job, findings=findings))


def _judge(session: Session, check: AttributionFaithfulness, encoded: EncodedPrompts) -> Result:
    """The check's result over as few prompts as decide: FEWEST_PROMPTS, then twice as many while none is faithful.

    At most half of the prompts are taken, so that the findings keep the other half, and at most the check's own number.
    Looking several times hardly makes a wrong choice more probable: a method that is no better than random must exceed
    every other order under every mask at once.
    """
    limit = max(1, len(session.job.prompts) // 2)
    limit = limit if check.explain.prompts is None else min(limit, check.explain.prompts)
    prompts = min(FEWEST_PROMPTS, limit)
    while True:
        result = score(session, replace(check, explain=replace(check.explain, prompts=prompts)), encoded)
        if not result.unfaithful[result.chosen_method] or prompts == limit:
            return result
        prompts = min(2 * prompts, limit)


def _check_of(findings: Mapping[str, Finding]) -> tuple[str, AttributionFaithfulness | None]:
    """(key, finding) of the check of attributions; ('', None) where there is none."""
    checks = ((key, one) for key, one in findings.items() if isinstance(one, AttributionFaithfulness))
    return next(checks, ("", None))


def _open(findings: Mapping[str, Finding]) -> dict[str, Attribution]:
    """The attributions whose method is still to be chosen, by the keys of their findings."""
    explainers = ((key, finding.explain) for key, finding in findings.items())
    return {key: explain for key, explain in explainers if isinstance(explain, Attribution) and explain.is_open}
