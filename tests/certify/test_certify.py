"""Certification: pairs without a shift and planted shifts go through the pipeline, are counted, and survive a kill."""

import copy
import dataclasses
import json
import shutil

import pytest
import torch

from shiftbench import commands
from shiftbench.certify import running, scoring
from shiftbench.certify.null_models import random_pair, rounded_pair, scaled_null
from shiftbench.certify.planted_units import Shift, planted, raised_gain, raised_instruction
from shiftbench.certify.planted_weights import plant_concepts, plant_verbs
from shiftbench.certify.scoring import drawn, plantable
from shiftbench.certify.tally import markdown, tally
from shiftbench.certify.trials import Design, Trial
from shiftbench.config import composition, overrides
from shiftbench.config.instantiation import instantiate
from shiftbench.contracts.claim import NullPair
from shiftbench.contracts.explainer import Inputs
from shiftbench.controls import WeightNull
from shiftbench.models import Model
from shiftbench.models.pairs import load_pair
from shiftbench.pipeline.choosing import UNCHECKED
from shiftbench.pipeline.job import build
from shiftbench.pipeline.progress import Progress
from shiftbench.prompts import Prompt
from shiftbench.stats import lower_bound, upper_bound
from shiftbench.store.explanation import Explanation, Unit
from tests.tiny import tiny_module, tiny_tokenizer


@pytest.fixture(scope="module")
def demo():
    return load_pair(instantiate(composition.packaged("pair/demo")))


@pytest.fixture(scope="module")
def job():
    return build(composition.compose("certify", ["vocabulary.size=2000", "dataset.limit=12"]))


def generator():
    return torch.Generator().manual_seed(0)


def copied(model, module):
    return Model("copy", module, model.tokenizer, None, model.dtype)


def test_every_kind_of_null_pair_and_every_claim_has_trials(job):
    config = composition.compose("certify", [])
    claims = {claim.score for finding in job.findings.values() for claim in finding.claims}
    assert set(plantable(job)) == claims == set(config.planted)
    design = Design(2, list(config.kinds), [0.5, 2], 1, {"verbs": [0.3], "recognition": [0.1], "gone": [1]})
    trials = design.trials(plantable(job))
    assert {trial.kind for trial in trials} == {*NullPair, None}
    assert len(trials) == 2 * (2 + 4) + 2 and len({trial.name for trial in trials}) == len(trials)
    assert [trial.number for trial in trials] == sorted(trial.number for trial in trials)
    assert len({trial.seed(0) for trial in trials}) == len(trials)


def test_noise_has_the_stated_share_of_tunings_size(demo):
    base, tuned = demo.base, demo.tuned
    before = dict(base.module.named_parameters())
    after = dict(tuned.module.named_parameters())
    for scale in (0.5, 3.0):
        module = scaled_null(base, tuned, WeightNull("gaussian", 1, 0, "all"), scale)
        for name, parameter in module.named_parameters():
            size = (after[name] - before[name]).norm()
            assert (parameter - before[name]).norm() == pytest.approx(float(scale * size), rel=1e-3)
    assert all(torch.equal(parameter, before[name]) for name, parameter in base.module.named_parameters())


def test_a_rounded_pair_differs_by_rounding_alone(demo):
    first, second = rounded_pair(demo.base, 0)
    other, _ = rounded_pair(demo.base, 1)
    stored = dict(demo.base.module.named_parameters())
    rounded, drawn_again = dict(second.named_parameters()), dict(other.named_parameters())
    moved = 0
    for name, parameter in first.named_parameters():
        assert torch.equal(rounded[name], parameter.bfloat16().float())
        # Half a step of bfloat16 is 2^-9 of the power of two at or below a number.
        assert ((parameter - stored[name]).abs() <= stored[name].abs() * 2**-8).all()
        moved += int((rounded[name] != parameter).sum())
        assert not torch.equal(drawn_again[name], parameter)
    assert moved > 0.9 * sum(parameter.numel() for parameter in first.parameters())


def test_random_networks_differ_by_seed_and_have_the_bases_vocabulary(demo):
    first, second = random_pair(demo.base, 0)
    other, _ = random_pair(demo.base, 1)
    rows = demo.base.module.get_input_embeddings().weight.shape
    assert first.get_input_embeddings().weight.shape[0] == rows[0]
    weights = [module.get_input_embeddings().weight for module in (first, second, other)]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert (weights[1] - weights[0]).norm() == pytest.approx(float(0.3 * weights[0].norm()), rel=1e-3)


@pytest.mark.long
def test_planted_verbs_are_found_by_the_finding(demo, job):
    finding = job.findings["instruction_verbs"]
    base = demo.base
    module = scaled_null(base, demo.tuned, WeightNull("permuted", 1, 3, "all"), 1.0)
    inputs = Inputs((), job.vocabulary, job.vectors)

    def verbs(model):
        explanations = [
            Explanation({item.unit: item.compute() for item in finding.explain.work(one, inputs)}, {}, {})
            for one in (base, model)
        ]
        return finding(*explanations).score("verbs").value

    plain = verbs(copied(base, module))
    model = copied(base, module)
    plant_verbs(model, job.vocabulary, 0.6, generator())
    assert verbs(copied(base, module)) > plain + 0.3


@pytest.mark.long
def test_planted_concepts_are_components_with_words_of_tasks(demo, job):
    finding = job.findings["concept_rotation"]
    model = copied(demo.base, copy.deepcopy(demo.base.module))
    before = model.views.down_FD(2).double()
    plant_concepts(model, job.vocabulary, 0.2, generator())
    after = model.views.down_FD(2).double()
    # The components have the variances that they had, and about a fifth of them is new.
    sizes = [torch.linalg.svdvals(rows - rows.mean(0)) for rows in (before, after)]
    torch.testing.assert_close(*sizes, rtol=1e-3, atol=1e-4)
    inputs = Inputs((), job.vocabulary, job.vectors)
    labels = []
    for one in (demo.base, model):
        unit = finding.explain.work(one, inputs)[2].compute()
        labels.append(unit.arrays["label_CL"][:, unit.words["label"].index("none")].float().mean())
    assert labels[0] - labels[1] > 0.05


def test_a_planted_level_is_the_stated_share_and_only_on_the_instruction():
    instruction_P = torch.arange(100) < 50
    unit = Unit(
        {"level_PR": torch.zeros(100, 200, dtype=torch.uint8), "instruction_P": instruction_P},
        {"prompt_tokens": ["a"] * 100, "response_tokens": ["b"] * 200},
    )
    unit.arrays["level_PR"][99, 0] = 10
    found = raised_instruction(unit, Shift("recognition", 0.1, 0, "digest")).arrays["level_PR"]
    assert (found[:50] == 10).float().mean() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(found[50:], unit.arrays["level_PR"][50:]) and unit.arrays["level_PR"][:50].sum() == 0


def test_a_planted_gain_is_the_stated_number_of_nats():
    unit = Unit({"log_M": torch.tensor([-1.0, -2.0, -1.5])}, {"masks": ["nothing", "key parts", "random 1"]})
    found = raised_gain(unit, Shift("key_gain", 0.25, 0, "digest"))
    assert found.arrays["log_M"].tolist() == [-1.0, -2.25, -1.5]


def test_only_the_planted_model_gets_the_shift(demo, job):
    finding = job.findings["instruction_recognition"]
    finding = dataclasses.replace(finding, explain=finding.explain.chosen(UNCHECKED, frozenset()))
    with_shift = planted(finding, Shift("recognition", 0.1, 0, demo.tuned.weights_digest))
    assert type(with_shift) is type(finding) and with_shift.explain.definition == finding.explain.definition
    inputs = Inputs(_encoded(demo, job), job.vocabulary, job.vectors)
    for model, differs in ((demo.base, False), (demo.tuned, True)):
        plain, changed = (one.explain.work(model, inputs)[0] for one in (finding, with_shift))
        assert (plain.key != changed.key) is differs


def _encoded(demo, job):
    from shiftbench.prompts import encode

    return [(encode(prompt, demo.tuned.tokenizer), (5, 6, 7)) for prompt in job.prompts[:1]]


def trial_outcome(kind, verdict, number, planted="", size=None, weights="w"):
    return {
        "trial": Trial(NullPair[kind.upper()] if kind else None, planted, size, number).name,
        "kind": kind,
        "planted": planted,
        "size": size,
        "number": number,
        "base_weights": "b",
        "tuned_weights": weights,
        "verdicts": {"instruction_verbs.verbs": {"word": verdict, "value": 0.2}},
    }


def test_the_tally_counts_false_verdicts_over_judged_pairs_and_power_over_all(job):
    findings = {"verbs": job.findings["instruction_verbs"]}
    nulls = [trial_outcome("noise", "not clear", i, size=1, weights=f"n{i}") for i in range(57)]
    nulls += [trial_outcome("random", word, i, weights=f"r{i}") for i, word in enumerate(["supported", "opposite"])]
    nulls += [trial_outcome("permuted", "not trustworthy", 1, weights="p")]
    nulls += [trial_outcome("continued", "not clear", i, weights="c") for i in (1, 2)]  # the same two models twice
    shifts = [
        trial_outcome(None, word, i, "verbs", 0.3)
        for i, word in enumerate(["supported", "supported", "opposite", "not trustworthy"])
    ]
    refused = {"trial": "noise-1-9", "kind": "noise", "planted": "", "size": 1, "number": 9, "refused": "no word"}
    conditions = running._conditions(composition.compose("certify", []), job)
    document = tally(findings, [*nulls, *shifts, refused], conditions)
    (claim,) = document["claims"]
    assert (claim["pairs"], claim["judged"], claim["supported"], claim["opposite"]) == (61, 60, 1, 1)
    assert claim["false"] == pytest.approx(2 / 60) and claim["false_at_most"] == pytest.approx(0.1016, abs=1e-3)
    assert claim["decided"] == ["random-0", "random-1"]
    assert {row["kind"]: row["judged"] for row in claim["kinds"]} == {
        "noise": 57, "random": 2, "permuted": 0, "continued": 1,
    }  # fmt: skip
    (row,) = claim["planted"]
    assert row["power"] == 0.5 and row["power_at_least"] == pytest.approx(lower_bound(2, 4))
    text = markdown(document)
    assert "| heads encode instruction verbs | 61 | 60 | 1 | 1 | 3.3% | 10% |" in text
    assert "2 supported" in text and "noise-1-9: no word" in text and "0 of 57" in text


def test_the_bounds_are_clopper_pearsons():
    assert upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59)) and upper_bound(0, 59) < 0.05
    assert upper_bound(3, 3) == 1 and upper_bound(0, 0) == 1 and lower_bound(0, 7) == 0
    assert lower_bound(59, 59) == pytest.approx(0.05 ** (1 / 59))
    assert upper_bound(2, 60) == pytest.approx(1 - lower_bound(58, 60))


def test_prompts_are_drawn_anew_and_keep_their_order():
    prompts = [Prompt(str(i), f"prompt {i}", ()) for i in range(30)]
    first, second = drawn(prompts, 10, 1), drawn(prompts, 10, 2)
    assert len(first) == 10 and first != second and first == drawn(prompts, 10, 1)
    assert [prompt.id for prompt in first] == sorted((prompt.id for prompt in first), key=int)
    assert drawn(prompts, 50, 1) == prompts


@pytest.fixture(scope="module")
def tiny_pair(tmp_path_factory):
    """Folders of two tiny random models, the second of them the first with noise."""
    root = tmp_path_factory.mktemp("pair")
    lines = [
        {"id": str(i), "prompt": f"Write word {i}.\n\nInput: sea {i}", "instruction": [[0, 12 + (i > 9)]]}
        for i in range(12)
    ]
    (root / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name, noise in (("base", 0.0), ("tuned", 0.05)):
        module = tiny_module("llama")
        with torch.no_grad():
            torch.manual_seed(1)
            for parameter in module.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
        module.save_pretrained(root / name)
        tiny_tokenizer().save_pretrained(root / name)
    return root


def arguments(pair, *more):
    return [
        *("pair=local", f"pair.base={pair}/base", f"pair.tuned={pair}/tuned", "continued=null"),
        *("dataset=jsonl", f"dataset.path={pair}/prompts.jsonl", "prompts=10", "response.max_new_tokens=4"),
        *("vocabulary.size=400", "bootstrap.resamples=200", "suite=all", "~findings.concept_rotation", *more),
    ]


VERBS = ("~findings.instruction_recognition", "~findings.attribution_faithfulness")


@pytest.mark.long
def test_a_small_certification_runs_through_the_pipeline_and_resumes(tiny_pair, tmp_path, capfd, monkeypatch):
    sizes = "pairs=1", "shifts=1", "kinds=[permuted,random]", "plant=[verbs]", "planted.verbs=[0.5]"
    command = ["certify", *arguments(tiny_pair, *VERBS, *sizes), f"out={tmp_path / 'out'}"]
    assert commands.main(command) == 0
    printed = capfd.readouterr()
    assert "| heads encode instruction verbs |" in printed.out and "Planted shifts" in printed.out
    assert "3 of 3: " in printed.err and "Writing model shards" not in printed.err
    document = json.loads((tmp_path / "out" / "certification.json").read_text())
    assert document["pairs"] == 3 and document["conditions"]["draws"] == 39 and not document["refused"]
    assert (tmp_path / "out" / "certification.md").read_text() == markdown(document)
    assert sorted(path.name for path in (tmp_path / "out" / "trials").iterdir()) == [
        "permuted-1.json", "planted-verbs-0.5-1.json", "random-1.json",
    ]  # fmt: skip
    # A killed run has some of the files: the second run scores the missing pair alone, and gives the same outcome.
    (tmp_path / "out" / "trials" / "random-1.json").unlink()
    scored = []
    score_trial = running.score_trial
    monkeypatch.setattr(running, "score_trial", lambda *given: scored.append(given[1].name) or score_trial(*given))
    assert commands.main(command) == 0
    assert scored == ["random-1"]
    assert json.loads((tmp_path / "out" / "certification.json").read_text()) == document
    assert commands.main([*command, "seed=1"]) == 2
    assert "other settings" in capfd.readouterr().err


@pytest.mark.long
def test_trials_of_other_weights_under_the_same_path_are_not_taken_over(tiny_pair, tmp_path):
    def digest():
        config = composition.compose("certify", overrides.read(arguments(tmp_path / "pair"), "certify"))
        return running._digest(config, build(config))

    shutil.copytree(tiny_pair, tmp_path / "pair")
    before = digest()
    assert digest() == before
    shutil.copytree(tmp_path / "pair" / "base", tmp_path / "pair" / "tuned", dirs_exist_ok=True)
    assert digest() != before


@pytest.mark.long
def test_a_shift_planted_in_explanations_reaches_the_score_and_not_the_null_models(tiny_pair, tmp_path):
    config = composition.compose("certify", overrides.read(arguments(tiny_pair, "control.draws=2"), "certify"))
    setting = running._setting(config, build(config), tmp_path)
    outcome = {
        size: scoring.score_trial(setting, Trial(None, "recognition", size, 1), Progress(watch=lambda *_: None))
        for size in (0.01, 0.9)
    }
    assert set(outcome[0.9]["verdicts"]) == {
        "instruction_recognition.recognition", "instruction_recognition.prompt_density_rise",
    }  # fmt: skip
    small, large = (found["verdicts"]["instruction_recognition.recognition"]["score"] for found in outcome.values())
    assert large > small + 0.5
    assert not list((tmp_path / "trials").iterdir())  # models and explanations are removed


@pytest.mark.long
def test_what_cannot_certify_is_refused_before_work(capsys):
    assert commands.main(["certify", "control.draws=19"]) == 2
    assert "at least 39 null models" in capsys.readouterr().err
    assert commands.main(["certify", "bootstrap.confidence=0.99", "control.draws=198"]) == 2
    assert "at least 199 null models" in capsys.readouterr().err
    assert commands.main(["certify", "control=none", "~control.draws"]) == 2
    assert commands.main(["certify", "kinds=[noice]"]) == 2
    assert "'noice' is not known" in capsys.readouterr().err
    assert commands.main(["certify", "plant=[verb]"]) == 2
    assert "plant: 'verb' is not known" in capsys.readouterr().err
    assert commands.main(["certify", "tracking=none"]) == 2
    assert commands.main(["certify", "dry_run=true", "pairs=1", "shifts=0"]) == 0
    assert capsys.readouterr().out.startswith("7 pairs would be scored: noise-0.3-1, ")
