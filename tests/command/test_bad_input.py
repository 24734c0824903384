"""Bad input ends a command with one line that names the input and exit code 2, before long work and without results."""

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.command.conftest import arguments, save
from tests.tiny import tiny_module


def refused(ran, *parts):
    """Assert that a command refused its input, in one line that contains all parts."""
    assert ran.code == 2, ran.out + ran.err
    lines = [line for line in ran.err.splitlines() if line.startswith("shiftbench:")]
    assert len(lines) == 1, ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err, ran.err


def test_a_model_path_that_does_not_exist(shiftbench, job_options):
    refused(shiftbench(*arguments(job_options, pair__tuned="/no/such/model")), "/no/such/model")


def test_tokenizers_that_differ(shiftbench, job_options, folders, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folders / "tuned", other)
    text = json.loads((other / "tokenizer.json").read_text())
    vocabulary = text["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[40:42]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(text))
    refused(shiftbench(*arguments(job_options, pair__tuned=str(other))), "tokenizer", first)


@pytest.mark.parametrize("change", [{"hidden_size": 48, "num_attention_heads": 4}, {"num_hidden_layers": 3}])
def test_shapes_that_differ(shiftbench, job_options, tmp_path, change):
    save(tiny_module("llama", **change), tmp_path / "other")
    refused(shiftbench(*arguments(job_options, pair__tuned=str(tmp_path / "other"))), "other")


def test_architectures_that_differ(shiftbench, job_options, tmp_path):
    save(tiny_module("gpt2"), tmp_path / "other")
    refused(shiftbench(*arguments(job_options, pair__tuned=str(tmp_path / "other"))), "gpt2", "llama")


def test_an_architecture_without_views(shiftbench, job_options, tmp_path, folders):
    for name in ("base", "tuned"):
        shutil.copytree(folders / name, tmp_path / name)
        config = json.loads((tmp_path / name / "config.json").read_text())
        config.update(model_type="bloom", architectures=["BloomForCausalLM"])
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    ran = shiftbench(*arguments(job_options, pair__base=str(tmp_path / "base"), pair__tuned=str(tmp_path / "tuned")))
    refused(ran, "bloom", "models/")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(shiftbench, job_options, folders, tmp_path, value):
    other = tmp_path / "other"
    shutil.copytree(folders / "tuned", other)
    weights = load_file(other / "model.safetensors")
    name = next(key for key in weights if "down_proj" in key)
    weights[name].flatten()[3] = value
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    refused(shiftbench(*arguments(job_options, pair__tuned=str(other))), name)


def test_an_adapter_for_another_base(shiftbench, job_options, tmp_path):
    import peft

    other = save(tiny_module("llama", hidden_size=48, num_attention_heads=4), tmp_path / "other_base")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(other)
    lora = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    peft.get_peft_model(model, lora).save_pretrained(tmp_path / "adapter")
    refused(shiftbench(*arguments(job_options, pair__tuned=str(tmp_path / "adapter"))), "adapter")


def with_rows(tmp_path, *rows):
    """The path of a new prompt file with these rows, each a dict or a text."""
    path = tmp_path / "given.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


GOOD = {"id": "a", "prompt": "Write it.", "instruction": [[0, 5]]}


def test_a_span_outside_its_prompt(shiftbench, job_options, tmp_path):
    path = with_rows(tmp_path, {**GOOD, "instruction": [[0, 99]]})
    refused(shiftbench(*arguments(job_options, dataset__path=path)), "[0, 99)", "'a'")


def test_a_line_that_is_not_json(shiftbench, job_options, tmp_path):
    path = with_rows(tmp_path, GOOD, "{not json")
    refused(shiftbench(*arguments(job_options, dataset__path=path)), "given.jsonl", "2")


def test_an_empty_prompt_set(shiftbench, job_options, tmp_path):
    refused(shiftbench(*arguments(job_options, dataset__path=with_rows(tmp_path))), "given.jsonl")


@pytest.mark.long
def test_a_prompt_that_is_all_instruction_works(shiftbench, job_options, tmp_path):
    path = with_rows(tmp_path, *({**GOOD, "id": f"{i}", "instruction": [[0, 9]]} for i in range(3)))
    assert shiftbench(*arguments(job_options, dataset__path=path)).code == 0


def test_a_vocabulary_word_with_no_token(shiftbench, job_options, folders, tmp_path):
    vocabulary = tmp_path / "v.tsv"
    vocabulary.write_text((folders / "vocabulary.tsv").read_text() + "zürich\t0.1\n")
    base = tmp_path / "stripped"
    for name in ("base", "tuned"):
        shutil.copytree(folders / name, base / name)
        text = json.loads((base / name / "tokenizer.json").read_text())
        strip = {"type": "Replace", "pattern": {"Regex": ".*zürich.*"}, "content": ""}
        text["normalizer"] = strip
        (base / name / "tokenizer.json").write_text(json.dumps(text))
    ran = shiftbench(
        *arguments(
            job_options,
            pair__base=str(base / "base"),
            pair__tuned=str(base / "tuned"),
            vocabulary__path=str(vocabulary),
        )
    )
    refused(ran, "zürich")


def test_a_vocabulary_line_that_is_malformed(shiftbench, job_options, tmp_path):
    (tmp_path / "v.tsv").write_text("good\t1\n\t\n")
    refused(shiftbench(*arguments(job_options, vocabulary__path=str(tmp_path / "v.tsv"))), "v.tsv", "2")


@pytest.mark.parametrize("field", ["instruction_verbs.explain.k", "concept_rotation.explain.top"])
def test_an_option_that_asks_for_more_words_than_the_vocabulary_has(shiftbench, job_options, field):
    refused(shiftbench(*arguments(job_options, **{f"findings.{field}": "1000"})), field, "1000")


def test_an_output_folder_that_cannot_be_written(shiftbench, job_options, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(shiftbench(*arguments(job_options, out=str(tmp_path / "file" / "out"))), "output folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_output_folder(shiftbench, job_options, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {small} 2>/dev/null"):
        pytest.skip("this sandbox does not mount")
    try:
        refused(shiftbench(*arguments(job_options, out=str(small / "out"))), "full", str(small))
    finally:
        os.system(f"umount {small}")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["pair=demoo"], ["pair=demoo", "pair=demo?"]),
        (["pair=demo", "dataset=self_instrukt"], ["self_instrukt", "dataset=self_instruct?"]),
        (["pair=demo", "respones.mode=own"], ["respones.mode", "'response.mode'"]),
        (["pair=demo", "response.mode=mine"], ["response.mode", "shared"]),
        (["pair=demo", "template=x"], ["template", "tuned"]),
        (["pair=demo,demo_lora"], ["-m"]),
        (["pair=local"], ["pair.base"]),
        ([], ["pair", "demo"]),
        (["pair=demo", "device=abacus"], ["abacus"]),
        (["pair=demo", "dtype=float7"], ["float7"]),
        (["pair=demo", "--fast"], ["--fast"]),
        (["pair=demo", "response.max_new_tokens=abc"], ["max_new_tokens='abc'", "whole number"]),
        (["pair=demo", "bootstrap.confidence=95"], ["confidence=95"]),
        (["pair=demo", "bootstrap.resamples=0"], ["resamples=0"]),
        (["pair=demo", "findings.instruction_recognition.explain.memory=0"], ["memory=0"]),
        (["pair=demo", "findings.instruction_recognition.p=0.5"], ["p=0.5"]),
        (["pair=demo", "findings.instruction_verbs.explain.k=0"], ["k=0"]),
        (["pair=demo", "findings.concept_rotation.ranks=[]"], ["ranks=[]"]),
    ],
)
def test_unknown_options_are_refused_and_the_nearest_suggested(shiftbench, words, parts):
    refused(shiftbench("score", *words), *parts)


def test_a_command_that_does_not_exist(shiftbench):
    refused(shiftbench("scorre"), "scorre", "'score'")
    refused(shiftbench("store", "prun"), "prun", "'prune'")


def test_nothing_is_written_when_input_is_refused(shiftbench, job_options, tmp_path):
    shiftbench(*arguments(job_options, pair__tuned="/no/such/model"))
    assert not (Path(job_options["out"]) / "scores.json").exists()
