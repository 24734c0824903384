"""The bundled adapter on SmolLM2-135M-Instruct: what it is, and that its card and its losses say the same."""

import json
import re
from pathlib import Path

import peft
import pytest
import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

from shiftbench.config import composition
from shiftbench.demo import model_folder

FOLDER = Path(model_folder("smollm2_lora"))
RANK = 8
LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
SMOLLM2_135M = dict(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def weights():
    with safe_open(FOLDER / "adapter_model.safetensors", framework="pt") as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}


@pytest.fixture(scope="module")
def card():
    return (FOLDER / "README.md").read_text(encoding="utf-8")


def test_it_is_an_adapter_of_rank_8_on_all_linear_layers(weights):
    config = peft.LoraConfig.from_pretrained(str(FOLDER))
    assert (config.r, config.lora_alpha, config.rank_pattern) == (RANK, 2 * RANK, {})
    assert set(config.target_modules) == LINEAR
    assert config.base_model_name_or_path == composition.compose("config", ["pair=smollm2_lora"]).pair.base
    with torch.device("meta"):
        adapted = peft.get_peft_model(LlamaForCausalLM(LlamaConfig(**SMOLLM2_135M)), config)
    wanted = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    assert {name: tensor.shape for name, tensor in weights.items()} == {n: t.shape for n, t in wanted.items()}
    assert len(weights) == 2 * 30 * len(LINEAR)
    assert {min(tensor.shape) for tensor in weights.values()} == {RANK}


def test_it_was_trained_and_is_small(weights):
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert all(torch.isfinite(tensor).all() and tensor.any() for tensor in weights.values())  # B begins as 0
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", "losses.json", "README.md"}
    assert sum(files.values()) < 10_000_000


def test_its_card_has_the_recipe_and_the_losses(card):
    losses = json.loads((FOLDER / "losses.json").read_text())
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    for name, key in (("base", "before"), ("tuned", "after")):
        assert [name, *(f"{loss:.3f}" for loss in losses[key].values())] in rows
    for point in losses["curve"]:
        trained = f"{point['loss']:.3f}" if "loss" in point else ""
        assert [str(point["step"]), trained, f"{point['held_out']:.3f}"] in rows
    options = composition.compose("demo_tune", ["base=b", "corpora=c", "out=o"]).options
    recipe = " ".join(card.split())
    for key, value in options.items():
        assert f"learning rate {value.lora}." in recipe if key == "learning_rate" else f"{key} {value}" in recipe
    assert losses["curve"][-1]["step"] == options.steps and options.adapter_rank == RANK
    for part in ("license: apache-2.0", "Data and licenses", "Held-out loss", "Answers to held-out instructions"):
        assert part in card


def test_it_learned():
    losses = json.loads((FOLDER / "losses.json").read_text())
    for title, before in losses["before"].items():
        assert losses["after"][title] < before / 2, title


@pytest.mark.parametrize("file", ["adapter_config.json", "README.md"])
def test_it_names_no_path_of_the_machine_that_it_was_made_on(file):
    text = (FOLDER / file).read_text(encoding="utf-8")
    assert not re.search(r"(^|[\s\"'=`(])(/|~/|[A-Za-z]:\\)\w", text)
