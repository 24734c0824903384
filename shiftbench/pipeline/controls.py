"""The findings of a job on null models, and the results beside them (docs/controls.md)."""

from __future__ import annotations

from collections.abc import Sequence

from shiftbench.contracts.control import Control
from shiftbench.contracts.explainer import WeightExplainer
from shiftbench.contracts.result import Result
from shiftbench.findings.null import beside_null
from shiftbench.pipeline.encoding import EncodedPrompts
from shiftbench.pipeline.scoring import answer, question
from shiftbench.pipeline.session import Session


def controlled(session: Session, control: Control, results: Sequence[Result], encoded: EncodedPrompts) -> list[Result]:
    """Each result beside those of the null models, on responses of the main mode; a check's result stays alone."""
    findings = [finding for finding in session.job.findings.values() if not finding.is_check]
    asked = [question(session, finding, session.job.responses.mode, encoded) for finding in findings]
    nulls: dict[str, list[Result]] = {finding.name: [] for finding in findings}
    on_models = [one for one in asked if not isinstance(one.finding.explain, WeightExplainer)]
    on_weights = [one for one in asked if isinstance(one.finding.explain, WeightExplainer)]
    # Base's explanations are read from the store for each draw: all findings' at once may be more than memory has.
    if on_models:
        for model in control.models(session.models.base, session.models.tuned):
            for one in on_models:
                nulls[one.finding.name].append(answer(session, one, model))
    if on_weights:
        for weights in control.weights(session.base_weights, session.tuned_weights):
            for one in on_weights:
                nulls[one.finding.name].append(answer(session, one, weights))
    return [
        result
        if finding.is_check
        else beside_null(result, nulls[finding.name], control.kind, finding.bootstrap.confidence)
        for result, finding in zip(results, session.job.findings.values(), strict=True)
    ]
