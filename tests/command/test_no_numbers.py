"""A run without usable numbers ends in an error or in a note; it never reports a score of 0 for missing numbers."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.command.conftest import arguments, scores

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("no_pictures")]

REMOVED_FINDINGS = {
    "~findings.concept_rotation": None,
    "~findings.instruction_verbs": None,
    "~findings.attribution_faithfulness": None,
}


def job(job_options, **change):
    """The arguments of a job with one finding only."""
    words = [name if value is None else f"{name}={value}" for name, value in REMOVED_FINDINGS.items()]
    return [*arguments(job_options, **change), *words]


def without_responses(folder, copy):
    """A copy of a model's folder in which every token is an end-of-text token, so that all responses are empty."""
    shutil.copytree(folder, copy)
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": list(range(400))}))
    return str(copy)


@pytest.mark.parametrize("end", [0, 1])
def test_logits_that_overflow_in_float16_end_the_run(shiftbench, job_options, folders, tmp_path, end):
    module = AutoModelForCausalLM.from_pretrained(folders / "tuned")
    with torch.no_grad():
        module.model.layers[0].mlp.down_proj.weight.mul_(5e4)
    shutil.copytree(folders / "tuned", tmp_path / "large")
    module.generation_config.eos_token_id = end
    module.save_pretrained(tmp_path / "large")
    ran = shiftbench(*job(job_options, pair__tuned=str(tmp_path / "large"), dtype="float16"))
    assert ran.code == 2
    assert f"{tmp_path / 'large'} in float16: the logits" in ran.err and "not finite" in ran.err
    assert ran.err.rstrip().endswith("use dtype=bfloat16 or dtype=float32")


def test_responses_that_are_all_empty_are_no_score(shiftbench, job_options, folders, tmp_path):
    tuned = without_responses(folders / "tuned", tmp_path / "silent")
    ran = shiftbench(*job(job_options, pair__tuned=tuned))
    assert ran.code == 2
    assert f"response mode 'shared': the responses of {tuned} to all 6 prompts are empty" in ran.err
    assert "eos_token_id" in ran.err and "Traceback" not in ran.err


def test_empty_responses_beside_full_ones_are_left_out_with_a_note(shiftbench, job_options, folders, tmp_path):
    base = without_responses(folders / "base", tmp_path / "silent")
    ran = shiftbench(*job(job_options, pair__base=base, response__beside="own"))
    assert ran.code == 0, ran.err
    document = scores(job_options["out"])
    names = {score["name"] for score in document["scores"]}
    assert "recognition" in names and not any(name.endswith("own_response") for name in names)
    (note,) = [note for note in document["notes"] if note.startswith("Nothing is reported on own responses")]
    assert f"the responses of {base} to all 6 prompts are empty" in note


def test_an_adapter_that_is_not_merged_is_a_note(shiftbench, job_options, folders, tmp_path):
    import peft

    from tests.tiny import tiny_module, tiny_tokenizer

    tiny_module("llama", tie_word_embeddings=True).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    lora = peft.LoraConfig(r=2, target_modules=["embed_tokens"], task_type="CAUSAL_LM", init_lora_weights=False)
    peft.get_peft_model(tiny_module("llama", tie_word_embeddings=True), lora).save_pretrained(tmp_path / "adapter")
    pair = {"pair.base": str(tmp_path / "base"), "pair.tuned": str(tmp_path / "adapter")}
    ran = shiftbench(*job(job_options, **pair, response__beside="null"))
    assert ran.code == 0, ran.err
    assert any("kept beside the weights and not merged" in note for note in scores(job_options["out"])["notes"])
    ran = shiftbench(*job(job_options, **pair, control="permuted", out=job_options["out"] + "2"))
    assert ran.code == 2 and "control=permuted draws random changes of weights" in ran.err
