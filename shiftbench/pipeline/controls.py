"""Scores a job's findings on null models, and adds the comparison to the findings' results (docs/controls.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shiftbench.contracts.control import Control
from shiftbench.contracts.explainer import WeightExplainer
from shiftbench.contracts.result import Result
from shiftbench.findings.null import beside_null
from shiftbench.models import Model
from shiftbench.models.weights import Weights
from shiftbench.pipeline.encoding import EncodedPrompts
from shiftbench.pipeline.scoring import comparison_of, result_of
from shiftbench.pipeline.session import Session


def compare_with_nulls(
    session: Session, control: Control, results: Sequence[Result], encoded: EncodedPrompts
) -> list[Result]:
    """The findings' results, in the same order, each with its scores compared with those of the null models.

    `findings.null.beside_null` adds the comparison: two tables, and a score SCORE_over_null for the headline and for
    each score that a claim is about. A finding that checks a method (`Finding.is_check`) is not scored on null models,
    and its result is returned as it is. results: one for each of the job's findings, in the order of `Job.findings`.
    control: supplies the null models. encoded: the job's prompts. Each null model stands in the tuned model's place,
    with the tuned model's prompts and responses of the main mode (`response.mode`).
    """
    findings = session.job.findings
    comparisons = {
        key: comparison_of(session, finding, session.job.responses.mode, encoded)
        for key, finding in findings.items()
        if not finding.is_check
    }
    on_weights = [key for key, one in comparisons.items() if isinstance(one.finding.explain, WeightExplainer)]
    on_models = [key for key in comparisons if key not in on_weights]
    results_on_nulls: dict[str, list[Result]] = {key: [] for key in comparisons}

    def score_on(nulls: Iterator[Model] | Iterator[Weights], keys: Sequence[str]) -> None:
        # `result_of` reads base's explanations from the store again for each null model, because those of all findings
        # together may not fit into memory.
        for null in nulls:
            for key in keys:
                results_on_nulls[key].append(result_of(session, comparisons[key], null))

    if on_models:
        score_on(control.models(session.models.base, session.models.tuned), on_models)
    if on_weights:
        score_on(control.weights(session.base_weights, session.tuned_weights), on_weights)
    return [
        beside_null(result, results_on_nulls[key], control.kind, finding.bootstrap.confidence, finding.claims)
        if key in comparisons
        else result
        for result, (key, finding) in zip(results, findings.items(), strict=True)
    ]
