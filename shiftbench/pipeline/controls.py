"""Scores a job's findings on null models and adds the comparison to the results (docs/controls.md)."""

from __future__ import annotations

from collections.abc import Sequence

from shiftbench.contracts.control import Control
from shiftbench.contracts.explainer import WeightExplainer
from shiftbench.contracts.result import Result
from shiftbench.findings.null import beside_null
from shiftbench.pipeline.encoding import EncodedPrompts
from shiftbench.pipeline.scoring import comparison_of, result_of
from shiftbench.pipeline.session import Session


def compare_with_nulls(
    session: Session, control: Control, results: Sequence[Result], encoded: EncodedPrompts
) -> list[Result]:
    """The results, each with its scores compared with those of the null models; a check's result stays as it is.

    results: one for each of the job's findings, in their order. Null models are scored on responses of the main mode.
    """
    findings = [finding for finding in session.job.findings.values() if not finding.is_check]
    comparisons = [comparison_of(session, finding, session.job.responses.mode, encoded) for finding in findings]
    nulls: dict[str, list[Result]] = {finding.name: [] for finding in findings}
    on_models = [one for one in comparisons if not isinstance(one.finding.explain, WeightExplainer)]
    on_weights = [one for one in comparisons if isinstance(one.finding.explain, WeightExplainer)]
    # For each null model, base's explanations are read from the store again: those of all findings together may not fit
    # into memory.
    if on_models:
        for model in control.models(session.models.base, session.models.tuned):
            for one in on_models:
                nulls[one.finding.name].append(result_of(session, one, model))
    if on_weights:
        for weights in control.weights(session.base_weights, session.tuned_weights):
            for one in on_weights:
                nulls[one.finding.name].append(result_of(session, one, weights))
    return [
        result
        if finding.is_check
        else beside_null(result, nulls[finding.name], control.kind, finding.bootstrap.confidence)
        for result, finding in zip(results, session.job.findings.values(), strict=True)
    ]
