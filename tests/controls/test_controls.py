"""Null models have a change of the same size and none of its structure; a planted shift stands out of them."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from shiftbench.contracts.claim import Claim
from shiftbench.contracts.result import Result, Score
from shiftbench.controls import WeightNull
from shiftbench.errors import InputError
from shiftbench.findings.null import beside_null, excess_score
from shiftbench.models import wrap
from shiftbench.stats import place_in_null
from shiftbench.verdicts.decision import Evidence, Null, decide
from tests.command.conftest import arguments, folders, job_options, shiftbench  # noqa: F401 (fixtures)
from tests.tiny import tiny_module, tiny_tokenizer

pytestmark = pytest.mark.whole


@pytest.fixture
def pair():
    base, tuned = tiny_module("llama"), tiny_module("llama", seed=1)
    tokenizer = tiny_tokenizer()
    with wrap(base, tokenizer) as first, wrap(tuned, tokenizer) as second:
        yield first, second


def changes(base, model):
    before = dict(base.module.named_parameters())
    return {name: (p - before[name]).double() for name, p in model.module.named_parameters()}


def whole(control, base, tuned):
    """The null models of a control, one after the other, loaded."""
    draw = control.models(base, tuned)
    return (draw(i) for i in range(control.draws))


def test_a_permuted_change_has_the_same_numbers_elsewhere(pair):
    base, tuned = pair
    wanted = changes(base, tuned)
    for model in whole(WeightNull("permuted", 2, 0, "all"), base, tuned):
        found = changes(base, model)
        for name, change in wanted.items():
            assert torch.allclose(found[name].flatten().sort()[0], change.flatten().sort()[0], atol=1e-6)
            assert change.numel() < 50 or not torch.allclose(found[name], change, atol=1e-2)


def test_gaussian_noise_has_the_same_size(pair):
    base, tuned = pair
    wanted = changes(base, tuned)
    (model,) = whole(WeightNull("gaussian", 1, 0, "all"), base, tuned)
    for name, change in changes(base, model).items():
        assert float(change.norm()) == pytest.approx(float(wanted[name].norm()), rel=1e-4)


def test_draws_differ_from_each_other_and_are_the_same_again(pair):
    base, tuned = pair
    seen = []
    for seed in (0, 0, 1):
        for model in whole(WeightNull("permuted", 2, seed, "all"), base, tuned):
            known, model = model.weights_digest, model.module.state_dict()
            seen.append((known, model["model.layers.0.mlp.up_proj.weight"].clone()))
    keys, weights = zip(*seen, strict=True)
    assert keys[:2] == keys[2:4] and len(set(keys)) == 4
    assert torch.equal(weights[0], weights[2]) and torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[4])


def test_the_pair_itself_stays_as_it_was(pair):
    base, tuned = pair
    before = base.weights_digest, {k: v.clone() for k, v in tuned.module.state_dict().items()}
    list(whole(WeightNull("permuted", 1, 0, "all"), base, tuned))
    assert all(torch.equal(value, before[1][name]) for name, value in tuned.module.state_dict().items())


def test_rows_that_tuning_added_stay(pair):
    base, tuned = pair
    tuned.module.resize_token_embeddings(408)
    added = tuned.module.get_input_embeddings().weight[400:].clone()
    (model,) = whole(WeightNull("permuted", 1, 0, "all"), base, tuned)
    assert torch.equal(model.module.get_input_embeddings().weight[400:], added)


CLAIM = Claim("headline", "it rose", "it rose", "it fell", "prompts", 10, zero_is_null=True)


def result(value, n=60):
    score = Score("f", "headline", value, value - 0.1, value + 0.1, 0.01, n)
    return Result("f", "headline", "It rose.", [score], {})


def nulls(count=39):
    """The scores of null models, evenly spread from -0.1 to 0.1."""
    return [{"headline": (2 * i / (count - 1) - 1) / 10} for i in range(count)]


def test_a_score_far_beyond_its_null_exceeds_it():
    found = beside_null(result(0.5), nulls(), "permuted", 0.95, [CLAIM])
    over = found.scores[-1]
    assert over.name == "headline_over_null" and over.n == 60 and over.p < 0.001
    assert over.value == pytest.approx(0.5) and over.low > 0.3
    (row,) = found.tables["null_permuted"].to_dict("records")
    assert row["draws"] == 39 and row["null mean"] == pytest.approx(0) and row["rank p"] == pytest.approx(1 / 40)
    assert len(found.tables["null_permuted_draws"]) == 39 and found.nulls.draws == 39


def test_a_score_inside_its_null_does_not():
    over = beside_null(result(0.02), nulls(), "permuted", 0.95, [CLAIM]).scores[-1]
    assert over.low < 0 < over.high and over.p > 0.3


def test_one_control_model_is_no_distribution():
    over = beside_null(result(0.5), [{"headline": 0.2}], "continued", 0.95, [CLAIM]).scores[-1]
    assert (over.p, over.n) == (None, 60) and over.value == pytest.approx(0.3)
    assert over.low == pytest.approx(0.2) and over.high == pytest.approx(0.4)


def test_nothing_changed_stays_nothing():
    same = Score("f", "headline", 0.0, 0.0, 0.0, None, 0)
    assert excess_score(same, [0.0] * 39, 0.95).n == 0


def test_a_null_model_scores_like_the_other_null_models(pair):
    """Size of the test: a permuted model in the tuned one's place is as extreme as chance makes it."""
    base, tuned = pair
    drawn = [
        float((changes(base, m)["model.layers.0.mlp.up_proj.weight"][0]).sum())
        for m in whole(WeightNull("permuted", 200, 3, "all"), base, tuned)
    ]
    p = [place_in_null(drawn[i], drawn[:i] + drawn[i + 1 :]).p for i in range(200)]
    assert 0.02 <= sum(x <= 0.05 for x in p) / 200 <= 0.08


@pytest.mark.parametrize(("draws", "word"), [(3, "not clear"), (38, "not clear"), (39, "supported")])
def test_fewer_draws_than_39_give_a_range_and_decide_nothing(draws, word):
    found = beside_null(result(0.5), nulls(draws), "permuted", 0.95, [CLAIM])
    score, over = found.scores
    place = place_in_null(0.5, found.nulls.values["headline"])
    null = Null("permuted", draws, place.mean, place.low, place.high, draws)
    verdict = decide(CLAIM, Evidence(score, over, null, p=over.p))
    assert verdict.word.value == word
    assert any("give a range" in reason for reason in verdict.reasons) == (draws < 39)


@pytest.mark.parametrize("control", ["permuted", "gaussian", "continued"])
def test_a_run_under_control_says_so(shiftbench, job_options, control):  # noqa: F811
    extra = {"control.path": job_options["pair.tuned"]} if control == "continued" else {"control.draws": "3"}
    ran = shiftbench(*arguments(job_options, control=control, **extra))
    assert ran.code == 0, ran.err
    document = json.loads((Path(job_options["out"]) / "scores.json").read_text())
    over = [score for score in document["scores"] if score["name"].endswith("_over_null")]
    assert {score["finding"] for score in over} == {"instruction_recognition", "instruction_verbs", "concept_rotation"}
    draws = {verdict["null"]["draws"] for verdict in document["verdicts"].values() if verdict["null"]}
    assert draws == {1 if control == "continued" else 3}
    assert document["pair"]["control"] == control
    table = pd.read_csv(Path(job_options["out"]) / "tables" / f"instruction_recognition.null_{control}.csv")
    assert table["score"][0] == "recognition"
    if control == "continued":  # tuned itself stands in its own place
        assert all(score["value"] == pytest.approx(0, abs=1e-9) for score in over)
    again = shiftbench(*arguments(job_options, control=control, verbose="true", **extra))
    assert "explained 0 units anew" in again.out


def test_bad_controls_are_refused(shiftbench, job_options):  # noqa: F811
    for values, told in (
        ({"control": "permuted", "control.draws": "0"}, "control.draws=0"),
        ({"control": "permuted", "control.kind": "odd"}, "control.kind='odd'"),
        ({"control": "continued", "control.path": "/nowhere"}, "/nowhere"),
        ({"control": "continued"}, "control.path"),
    ):
        ran = shiftbench(*arguments(job_options, **values))
        assert ran.code == 2 and told in ran.err, values
    with pytest.raises(InputError, match="merge_adapter=true"):
        source = type("S", (), {"adapter": "a", "merge_adapter": False, "name": "x"})()
        WeightNull("permuted", 1, 0, "all").check(source)
