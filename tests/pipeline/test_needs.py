"""A finding declares what it needs of a pair, and nothing else is loaded, encoded or decoded for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from shiftbench import models
from shiftbench.config.composition import compose
from shiftbench.contracts.explainer import Explainer, Inputs, WeightExplainer
from shiftbench.contracts.finding import Finding, Group
from shiftbench.contracts.need import BOTH_MODELS, Need
from shiftbench.contracts.result import Result, Score, ScoreFact, no_change
from shiftbench.controls import WeightNull
from shiftbench.errors import InputError
from shiftbench.models import Model
from shiftbench.models.weights import FileWeights, Weights
from shiftbench.pipeline.checks import check
from shiftbench.pipeline.job import Job, build
from shiftbench.pipeline.progress import Progress
from shiftbench.pipeline.run import explain_and_score
from shiftbench.stats import Bootstrap
from shiftbench.store.explanation import Explanation, Unit
from shiftbench.store.work import Work
from tests.command.conftest import folders, small_job  # noqa: F401
from tests.tiny import tiny_module, tiny_tokenizer

BOOTSTRAP = Bootstrap(resamples=100, confidence=0.95, seed=0)


@dataclass(frozen=True)
class ChangeNorms(WeightExplainer):
    """The relative size of each weight's change."""

    method: ClassVar[str] = "change_norms"
    version: ClassVar[int] = 1

    def work(self, base: Weights, tuned: Weights) -> list[Work]:
        """A unit a weight: norm_1, float64."""
        common = {"method": self.method, "version": self.version, "weights": [base.digest, tuned.digest]}
        return [
            Work(name, {**common, "weight": name}, lambda name=name: self._unit(base.tensor(name), tuned.tensor(name)))
            for name in base.names
        ]

    def _unit(self, base: torch.Tensor, tuned: torch.Tensor) -> Unit:
        return Unit({"norm_1": ((tuned - base).double().norm() / base.double().norm())[None]})


@dataclass(frozen=True)
class WeightChange(Finding):
    """The mean relative size of the weights' changes."""

    explain: ChangeNorms
    bootstrap: Bootstrap
    name: ClassVar[str] = "weight_change"
    version: ClassVar[int] = 1
    group: ClassVar[Group] = Group.PROBE
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHT_FILES})
    facts: ClassVar[Mapping[str, ScoreFact]] = {"size": ScoreFact("size", "share", "the weights changed", "none did")}

    def __call__(self, between: Explanation) -> Result:
        values = torch.cat([unit.arrays["norm_1"] for unit in between.units.values()])
        if not values.any():
            score = no_change(self.name, "size")
        else:
            score = Score(self.name, "size", float(values.mean()), *values.aminmax(), None, len(values))
        return Result(self.name, "size", "The weights changed.", [score], {})


@pytest.fixture
def job(folders, tmp_path) -> Job:  # noqa: F811
    """A job on the tiny pair that scores WeightChange alone."""
    words = [f"{key}={value}" for key, value in small_job(folders, tmp_path).items() if key != "out"]
    whole = build(compose("config", words))
    return dataclasses.replace(whole, findings={"weight_change": WeightChange(ChangeNorms(), BOOTSTRAP)})


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""

    def load(source: models.ModelSource) -> Model:
        pytest.fail(f"{source.name} was loaded")

    monkeypatch.setattr(models, "load", load)


def test_a_finding_on_weight_files_loads_no_model_and_encodes_no_prompt(job, no_model):
    check(job)
    outcome = explain_and_score(job, Progress(watch=lambda *_: None))
    base, tuned = FileWeights(job.pair.base), FileWeights(job.pair.tuned)
    changes = [(tuned.tensor(n) - base.tensor(n)).double().norm() / base.tensor(n).double().norm() for n in base.names]
    (score,) = outcome.results[0].scores
    assert score.value == pytest.approx(float(torch.stack(changes).mean())) and score.value > 0
    assert outcome.prompts == 0 and outcome.computed == len(base.names)
    assert outcome.identity["base_weights"] == base.digest != outcome.identity["tuned_weights"]


def test_null_weights_are_drawn_tensor_by_tensor(job, no_model, monkeypatch):
    held = []
    monkeypatch.setattr(WeightNull, "drawn", _noted(WeightNull.drawn, held))
    controlled = dataclasses.replace(job, control=WeightNull("permuted", 3, 0, "all"))
    check(controlled)
    outcome = explain_and_score(controlled, Progress(watch=lambda *_: None))
    scores = {score.name: score for score in outcome.results[0].scores}
    assert outcome.results[0].nulls.draws == 3
    assert scores["size_over_null"].value == pytest.approx(0, abs=1e-6), "a permuted change has the same norm"
    names = FileWeights(job.pair.base).names
    assert held == [(name, draw) for draw in range(3) for name in names], "each once, in the order they are read"


def test_a_finding_that_a_job_scores_twice_is_controlled_twice(job, no_model):
    """The same finding under two keys, as with two values of an option: each has its own null results."""
    finding, control = job.findings["weight_change"], WeightNull("permuted", 3, 0, "all")
    twice = dataclasses.replace(job, findings={"one": finding, "two": finding}, control=control)
    outcome = explain_and_score(twice, Progress(watch=lambda *_: None))
    assert [result.nulls.draws for result in outcome.results] == [3, 3]


def test_the_files_draws_are_those_of_the_loaded_models(job):
    null, base, tuned = WeightNull("permuted", 1, 0, "all"), models.load(job.pair.base), models.load(job.pair.tuned)
    of_files = null.weights(FileWeights(job.pair.base), FileWeights(job.pair.tuned), 0)
    model = null.models(base, tuned)(0)
    loaded = dict(model.module.named_parameters())
    assert all(torch.equal(of_files.tensor(name), loaded[name]) for name in of_files.names)


@dataclass(frozen=True)
class Gates(Explainer):
    """Looks at nothing."""

    method: ClassVar[str] = "gates"
    version: ClassVar[int] = 1

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        return []


@dataclass(frozen=True)
class NeedsGates(WeightChange):
    """A finding for models with gated feed-forward networks."""

    explain: Gates
    name: ClassVar[str] = "needs_gates"
    needs: ClassVar[frozenset[Need]] = BOTH_MODELS | {Need.GATED_NETWORK}


def test_a_model_without_a_part_that_a_finding_needs_is_refused(tmp_path, job):
    tiny_module("gpt2").save_pretrained(tmp_path / "gpt2")
    tiny_tokenizer().save_pretrained(tmp_path / "gpt2")
    source = dataclasses.replace(job.pair.base, path=str(tmp_path / "gpt2"))
    finding = NeedsGates(Gates(), BOOTSTRAP)
    other = dataclasses.replace(
        job, pair=dataclasses.replace(job.pair, base=source, tuned=source), findings={"needs_gates": finding}
    )
    with pytest.raises(InputError, match=r"needs_gates needs gated feed-forward networks, and .*gpt2 has none; leave"):
        explain_and_score(other, Progress(watch=lambda *_: None))


def test_a_gguf_file_or_an_adapter_is_no_weight_file(job):
    pair = job.pair
    for change, said in ((dict(gguf_file="m.gguf"), "not from GGUF"), (dict(adapter="a"), "merge the adapter")):
        other = dataclasses.replace(
            job, pair=dataclasses.replace(pair, tuned=dataclasses.replace(pair.tuned, **change))
        )
        with pytest.raises(InputError, match=said):
            FileWeights(other.pair.tuned)


def test_a_class_that_is_no_finding_is_refused_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("class Mine:\n    def __init__(self, **options): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = compose("config", ["pair=demo", "findings.instruction_verbs._target_=mine.Mine"])
    with pytest.raises(InputError, match=r"findings.instruction_verbs: Mine must derive from .*finding.Finding"):
        build(config)


def test_a_finding_that_does_not_say_what_it_is_fails_when_it_is_defined():
    with pytest.raises(TypeError, match="Half must set group, needs"):

        class Half(Finding):
            name = "half"
            version = 1


def _noted(drawn, held):
    def noting(self, name, base, tuned, draw):
        held.append((name, draw))
        return drawn(self, name, base, tuned, draw)

    return noting
