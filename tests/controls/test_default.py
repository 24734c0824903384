"""The default control: claims on weights alone are compared with null models in every run, and no pair is refused."""

import dataclasses
import json
import re
from pathlib import Path

import peft
import pytest
import torch

from shiftbench.findings.instruction_verbs import InstructionVerbs
from tests.command.conftest import arguments, folders, job_options, scores, shiftbench  # noqa: F401 (fixtures)
from tests.tiny import tiny_module, tiny_tokenizer

pytestmark = pytest.mark.whole
ON_WEIGHTS = {"instruction_verbs", "concept_rotation"}


@pytest.fixture
def cheap(job_options):  # noqa: F811
    """The options of a job that explains few responses."""
    return {**job_options, "dataset.limit": "2", "response.beside": "null", "~findings.attribution_faithfulness": ""}


def command(options, **changes):
    """The arguments, with `~` options without a value."""
    return [word.removesuffix("=") if word.startswith("~") else word for word in arguments(options, **changes)]


def stages(err):
    """{title of a stage: (units computed, units from the store)}, and the titles in their order."""
    found = re.findall(r"^(.*): (\d+) explained(?:, (\d+) from the store)?, ", err, re.MULTILINE)
    return {title: (int(computed), int(kept or 0)) for title, computed, kept in found}, [title for title, *_ in found]


def nulls_of(folder):
    return {name: verdict["null"] for name, verdict in scores(folder)["verdicts"].items()}


def test_claims_on_weights_are_controlled_and_others_are_not(shiftbench, cheap):  # noqa: F811
    ran = shiftbench(*command(cheap))
    assert ran.code == 0, ran.err
    document = scores(cheap["out"])
    found = nulls_of(cheap["out"])
    controlled = {name for name, null in found.items() if null is not None}
    assert controlled and {name.split(".")[0] for name in controlled} == ON_WEIGHTS
    assert {(null["kind"], null["draws"]) for name, null in found.items() if null} == {("permuted", 39)}
    assert document["pair"]["control"] == "weights"
    over = {score["finding"] for score in document["scores"] if score["name"].endswith("_over_null")}
    assert over == ON_WEIGHTS
    by_title, titles = stages(ran.err)
    assert len(titles) == len(set(titles)), "each stage is shown once"
    assert by_title["word_pairs of 39 permuted null models"] == (39, 0)
    assert by_title["concepts of 39 permuted null models"] == (39, 0)
    # No explanation of a null model is kept, but its scores are.
    records = [
        json.loads(path.read_text())["body"]["record"] for path in Path(cheap["store.path"]).rglob("record.json")
    ]
    kept = [record["method"] for record in records]
    assert kept.count("word_pairs") == kept.count("concepts") == 2 * 2 and kept.count("null_scores") == 2 * 39
    again = shiftbench(*command(cheap, verbose="true"))
    assert "explained 0 units anew" in again.out
    assert scores(cheap["out"])["verdicts"].keys() == document["verdicts"].keys()
    assert nulls_of(cheap["out"]) == found


def test_a_run_that_is_interrupted_goes_on_at_the_draw(shiftbench, cheap, monkeypatch):  # noqa: F811
    null_values, seen = InstructionVerbs.null_values, []

    def interrupted(self, *explanations):
        seen.append(1)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return null_values(self, *explanations)

    monkeypatch.setattr(InstructionVerbs, "null_values", interrupted)
    ran = shiftbench(*command(cheap))
    assert ran.code != 0
    ran = shiftbench(*command(cheap))
    assert ran.code == 0, ran.err
    assert stages(ran.err)[0]["word_pairs of 39 permuted null models"] == (34, 5)


def test_scores_of_null_models_depend_on_what_they_were_computed_from(shiftbench, cheap):  # noqa: F811
    few = {**cheap, "control.draws": "3"}
    assert shiftbench(*command(few)).code == 0
    for change, computed in (
        ({}, (0, 3)),
        ({"control__draws": "4"}, (1, 3)),
        ({"control__seed": "1"}, (3, 0)),
        ({"findings.instruction_verbs.explain.k": "9"}, (3, 0)),
        ({"bootstrap__resamples": "100"}, (0, 3)),
    ):
        ran = shiftbench(*command(few, **change))
        assert ran.code == 0, ran.err
        draws = change.get("control__draws", "3")
        shown = stages(ran.err)[0].get(f"word_pairs of {draws} permuted null models")
        # A stage that only reads the store is not shown.
        assert shown == (computed if computed[0] else None), change


def test_layers_that_tuning_did_not_change_are_not_explained_again(shiftbench, cheap, tmp_path, monkeypatch):  # noqa: F811
    from shiftbench.explain.attention import WordPairs

    base = tiny_module("llama")
    save(base, tmp_path / "base")
    with torch.no_grad():
        base.model.layers[1].self_attn.q_proj.weight.add_(0.1)
    save(base, tmp_path / "tuned")
    computed, unit = [], WordPairs._unit
    monkeypatch.setattr(
        WordPairs,
        "_unit",
        lambda self, prepared, layer: computed.append((prepared.model.name, layer)) or unit(self, prepared, layer),
    )
    pair = {"pair.base": str(tmp_path / "base"), "pair.tuned": str(tmp_path / "tuned"), "control.draws": "3"}
    assert shiftbench(*command({**cheap, **pair})).code == 0
    assert [item for item in computed if item[0].startswith("permuted")] == [(f"permuted {i}", 1) for i in (1, 2, 3)]


def test_an_adapter_gets_rotated_changes_even_where_it_is_kept_apart(shiftbench, cheap, tmp_path):  # noqa: F811
    save(tiny_module("llama"), tmp_path / "base")
    torch.manual_seed(0)
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    peft.get_peft_model(tiny_module("llama"), lora).save_pretrained(tmp_path / "adapter")
    pair = {"pair.base": str(tmp_path / "base"), "pair.tuned": str(tmp_path / "adapter"), "control.draws": "3"}
    found = []
    for merge in ("true", "false"):
        options = {**cheap, **pair, "pair.tuned_model.merge_adapter": merge, "out": f"{tmp_path}/out_{merge}"}
        ran = shiftbench(*command(options))
        assert ran.code == 0, ran.err
        found.append(nulls_of(options["out"]))
        assert {null["kind"] for null in found[-1].values() if null} == {"rotated"}
    for name, null in found[0].items():
        if null:
            assert null["mean"] == pytest.approx(found[1][name]["mean"], abs=0.1), name
    refused = shiftbench(*command({**cheap, **pair, "pair.tuned_model.merge_adapter": "false", "control": "random"}))
    assert refused.code == 2 and "merge_adapter=true" in refused.err


def test_a_pair_that_cannot_be_controlled_runs_with_a_note(shiftbench, cheap, tmp_path):  # noqa: F811
    wide = tiny_module("llama")
    save(tiny_module("llama", seed=1), tmp_path / "tuned")
    wide.resize_token_embeddings(408)
    save(wide, tmp_path / "base")
    pair = {"pair.base": str(tmp_path / "base"), "pair.tuned": str(tmp_path / "tuned"), "control.draws": "3"}
    ran = shiftbench(*command({**cheap, **pair}))
    assert ran.code == 0, ran.err
    notes = [note for note in scores(cheap["out"])["notes"] if "was not compared with null models" in note]
    # Concepts are read in base's embeddings, so that null models of them need no embeddings of tuned's.
    assert len(notes) == 1 and "has shape (408, 32) in base and (400, 32) in tuned" in notes[0]
    assert notes[0].startswith("instruction_verbs") and nulls_of(cheap["out"])["instruction_verbs"] is None
    refused = shiftbench(*command({**cheap, **pair, "control": "permuted"}))
    assert refused.code == 2 and "has shape (408, 32)" in refused.err


def test_an_annotator_that_asks_a_chat_model_is_not_asked_for_null_models():
    from shiftbench.annotate.lexical import LexicalAnnotator
    from shiftbench.config.composition import compose
    from shiftbench.pipeline.controls import why_not_controlled
    from shiftbench.pipeline.job import build

    class Asks(LexicalAnnotator):
        def questions(self, concepts):
            return f"{concepts} questions"

    job = build(compose("config", ["pair=demo"]))
    finding = job.findings["concept_rotation"]
    asks = dataclasses.replace(finding.explain, annotator=Asks(0.01, 1000, 0))
    assert why_not_controlled(job.control, finding) is None
    assert "asks a chat model" in why_not_controlled(job.control, dataclasses.replace(finding, explain=asks))
    assert why_not_controlled(job.control, job.findings["instruction_recognition"]) == ""


def save(module, folder):
    module.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
