"""Scores a job's findings on null models and adds the comparison to the results (docs/controls.md)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch

from shiftbench.contracts.annotator import Annotator
from shiftbench.contracts.control import Control
from shiftbench.contracts.explainer import Explainer, Method, WeightExplainer
from shiftbench.contracts.finding import Finding
from shiftbench.contracts.result import Result
from shiftbench.errors import InputError
from shiftbench.findings.null import beside_null
from shiftbench.models import Model
from shiftbench.pipeline.encoding import EncodedPrompts
from shiftbench.pipeline.gathering import combined_key
from shiftbench.pipeline.scoring import Comparison, comparison_of, works_of
from shiftbench.pipeline.session import Session
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit
from shiftbench.store.work import Work, compute_all


def compare_with_nulls(
    session: Session, control: Control, results: Sequence[Result], encoded: EncodedPrompts
) -> list[Result]:
    """The results, each with its scores compared with those of the null models.

    A result stays as it is where the finding is not scored on null models (`why_not_controlled`), and where a control
    for weights alone cannot draw null models. In both cases a note of the run says why, unless the reason is ''. Raises
    InputError where another control cannot draw null models.
    results: one for each of the job's findings, in their order. Null models are scored on responses of the main mode
    (`Responses.mode`).
    """
    whole = _WholeModels(session, control)
    compared = []
    for result, finding in zip(results, session.job.findings.values(), strict=True):
        why_not = why_not_controlled(control, finding)
        if why_not is None:
            try:
                result = _beside_nulls(session, control, result, finding, encoded, whole)
            except InputError as error:
                if not control.weights_only:
                    raise
                why_not = str(error)
        if why_not:
            session.gatherer.notes.append(f"{finding.name} was not compared with null models: {why_not}.")
        compared.append(result)
    return compared


def why_not_controlled(control: Control, finding: Finding) -> str | None:
    """Why a finding is not scored on null models, as a clause for a note of the run; None where it is scored.

    '' means that it is not scored and that no note is needed: this holds for checks, and under a control for weights
    alone for findings that depend on responses or make no claim. Under such a control, a finding gets a clause where
    its method may read weights otherwise than through Model.views, or its annotator asks a chat model.
    """
    if finding.is_check:
        return ""
    if not control.weights_only:
        return None
    if finding.needs_responses or not finding.claims:
        return ""
    explain = finding.explain
    if isinstance(explain, Explainer):
        if not explain.reads_views:
            return f"the method {explain.method} may read weights in other ways than through Model.views"
        annotators = [one for one in explain.methods_used() if isinstance(one, Annotator)]
        if any(one.questions(1) is not None for one in annotators):
            return "its annotator asks a chat model, and would be asked for each null model; control=random asks it"
    return None


class _WholeModels:
    """Called with the number of a draw, from 0 on, it returns that null model as a loaded Model.

    `Control.models` is called for the job's pair at the first such call, and not again.
    """

    def __init__(self, session: Session, control: Control) -> None:
        self._session, self._control = session, control

    @cached_property
    def _models(self) -> Callable[[int], Model]:
        return self._control.models(self._session.models.base, self._session.models.tuned)

    def __call__(self, draw: int) -> Model:
        return self._models(draw)


def _beside_nulls(
    session: Session, control: Control, result: Result, finding: Finding, encoded: EncodedPrompts, whole: _WholeModels
) -> Result:
    comparison = comparison_of(session, finding, session.job.responses.mode, encoded)
    scorer = _NullScorer(session, control, comparison, whole)
    title = f"{finding.explain.method}{comparison.responses} of {control.draws} {control.kind} null models"
    units = session.gatherer(title, scorer.work(), record_key=False).units.values()
    values = [dict(zip(unit.words["score"], unit.arrays["value_S"].tolist(), strict=True)) for unit in units]
    return beside_null(result, values, control.kind, finding.bootstrap.confidence, finding.claims)


class _NullScorer:
    """Scores one finding on null models. Of each null model the store keeps the scores, as one unit.

    If the finding's method reads weight files, or weights through Model.views alone, the null models' explanations are
    computed in memory and not stored. Otherwise each unit of them is stored as soon as it is computed.
    """

    method: ClassVar[str] = "null_scores"
    version: ClassVar[int] = 1

    def __init__(self, session: Session, control: Control, comparison: Comparison, whole: _WholeModels) -> None:
        self._session, self._control, self._comparison, self._whole = session, control, comparison, whole
        self._finding = comparison.finding
        explain = self._finding.explain
        self._on_files = isinstance(explain, WeightExplainer)
        self._in_memory = self._on_files or (isinstance(explain, Explainer) and explain.reads_views)

    def work(self) -> list[Work]:
        """One Work for each draw, in order. Its unit has value_S (float64) and words `score`, the S scores' names."""
        session, finding, models = self._session, self._finding, self._session.models
        if self._on_files:
            weights = [session.base_weights.digest, session.tuned_weights.digest]
            works = works_of(session, self._comparison, None, is_null=True)
        else:
            weights = [models.base.weights_digest, models.tuned.weights_digest]
            works = works_of(session, self._comparison, models.tuned, is_null=True)
        common = {
            "method": self.method,
            "version": self.version,
            "finding": [finding.name, finding.version],
            "options": _options(finding),
            "weights": weights,
            "explanations": [combined_key(item.key for item in work) for _, work in works],
        }
        return [
            Work(
                f"draw {draw}",
                {**common, "null": self._digest(draw), "draw": draw},
                lambda draw=draw: self._unit(draw),  # type: ignore[misc]
            )
            for draw in range(self._control.draws)
        ]

    def _digest(self, draw: int) -> str:
        session = self._session
        if self._on_files:
            return self._control.weights(session.base_weights, session.tuned_weights, draw).digest
        return self._control.digest(session.models.base, session.models.tuned, draw)

    @torch.no_grad()
    def _unit(self, draw: int) -> Unit:
        values = self._finding.null_values(*self._explanations(draw))
        return Unit({"value_S": torch.tensor(list(values.values()), dtype=torch.float64)}, {"score": list(values)})

    def _explanations(self, draw: int) -> list[Explanation]:
        session, models = self._session, self._session.models
        if self._on_files:
            weights = self._control.weights(session.base_weights, session.tuned_weights, draw)
            return [_computed(work) for _, work in works_of(session, self._comparison, weights, is_null=True)]
        if self._in_memory:
            null = self._control.views(models.base, models.tuned, draw)
            (_, _), (_, work), *further = works_of(session, self._comparison, null, is_null=True)
            kept = {name: self._base.units[name] for name in self._unchanged}
            return [self._base, _computed(work, kept), *(_computed(more) for _, more in further)]
        _, *works = works_of(session, self._comparison, self._whole(draw), is_null=True)
        return [self._base, *(session.gatherer.quietly(work) for _, work in works)]

    @cached_property
    def _base(self) -> Explanation:
        """Base's explanation, which the store has from scoring the pair."""
        (_, work), *_ = works_of(self._session, self._comparison, self._session.models.tuned, is_null=True)
        return self._session.gatherer.quietly(work)

    @cached_property
    def _unchanged(self) -> frozenset[str]:
        """Names of the units of base's explanation that null models are known to share; may be empty."""
        explain, models = self._finding.explain, self._session.models
        if not self._control.keeps_unchanged or not isinstance(explain, Explainer):
            return frozenset()
        return explain.unchanged(models.base, models.tuned, self._comparison.tuned)


def _computed(work: Sequence[Work], kept: Mapping[str, Unit] | None = None) -> Explanation:
    """The explanation of this work, computed and not stored. kept: units to take instead of computing them, by name."""
    units = dict(kept or {})
    missing = [item for item in work if item.unit not in units]
    units.update({missing[place].unit: unit for place, unit in compute_all(missing)})
    ordered = {item.unit: units[item.unit] for item in work}
    return Explanation(ordered, dict(work[0].content) if work else {}, {item.unit: item.key for item in work})


def _options(finding: Finding) -> dict[str, Any]:
    """The finding's own options, as JSON-able values.

    The options of its methods are left out, because the keys of the methods' units already depend on them. The
    bootstrap is left out, because no score's value depends on it.
    """
    assert dataclasses.is_dataclass(finding)
    values = {field.name: getattr(finding, field.name) for field in dataclasses.fields(finding)}
    return {name: _plain(value) for name, value in values.items() if not isinstance(value, (Method, Bootstrap))}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return repr(value)
