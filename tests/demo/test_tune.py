"""Tuning a model on triples: what it writes, that it learns, and that a seed decides everything."""

import gzip
import json
from dataclasses import asdict, replace

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from shiftbench.config import composition
from shiftbench.demo import tune
from shiftbench.demo.corpora import Triple, prompt_and_answer
from shiftbench.demo.losses import IGNORED, row_batches
from shiftbench.errors import InputError
from tests.tiny import SENTENCES, tiny_module, tiny_tokenizer

NAME = "somebody/some-model"
OPTIONS = tune.Options(
    seed=1, steps=30, rows_per_step=4, longest_row=100, adapter_rank=2, seed_task_share=0.1, warmup=3,
    learning_rate={"lora": 2e-2, "full": 5e-3},
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(the folder of a tiny model, the folder of 400 triples whose answer is always the same)."""
    base, corpora = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("corpora")
    tiny_module("llama", tie_word_embeddings=True).save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    rows = [
        {
            "instruction": f"Write {i % 40}",
            "input": f"a {i}",
            "output": "the sea",
            "source": ("t0", "seed_tasks")[i % 2],
        }
        for i in range(400)
    ]
    rows.append({"instruction": " ".join(SENTENCES * 3), "input": "", "output": "long", "source": "t0"})
    (corpora / "instruct.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return base, corpora


def tuned(folders, out, parameters="lora", options=OPTIONS):
    base, corpora = folders
    tune.tune(str(base), None, corpora, out, parameters, NAME, options)
    return json.loads((out / "losses.json").read_text())


@pytest.mark.parametrize("parameters", ["lora", "full"])
def test_the_folder_has_what_was_trained_with_its_losses_and_card(folders, tmp_path, parameters):
    losses = tuned(folders, tmp_path / "out", parameters)
    assert list(losses["before"]) == list(losses["after"])
    for title, before in losses["before"].items():
        assert losses["after"][title] < before - 0.5
    assert [point["step"] for point in losses["curve"]] == [0, 25, 30]
    assert "loss" not in losses["curve"][0] and losses["curve"][-1]["held_out"] < losses["curve"][0]["held_out"]

    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"base_model: {NAME}" in card and "at most 100 tokens" in card and str(folders[0]) not in card
    for column in zip(losses["before"].values(), losses["after"].values(), strict=True):
        assert all(f"{loss:.3f}" in card for loss in column)

    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    module = AutoModelForCausalLM.from_pretrained(folders[0])
    if parameters == "lora":
        assert files == {"adapter_config.json", "adapter_model.safetensors", "losses.json", "README.md"}
        module = peft.PeftModel.from_pretrained(module, tmp_path / "out")
        assert module.peft_config["default"].base_model_name_or_path == NAME
    else:
        assert {"model.safetensors", "config.json", "tokenizer.json", "losses.json", "README.md"} <= files
        module = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        assert module.dtype == torch.float32
    # The model in the folder is the model that was measured: its loss on an answer is near the one that was written.
    prompt, answer = prompt_and_answer(Triple("Write 3", "a 43", "the sea", "t0"))
    tokenizer = tiny_tokenizer()
    ids, end = tokenizer(prompt)["input_ids"], tokenizer(answer)["input_ids"] + [tokenizer.eos_token_id]
    labels = torch.tensor([[IGNORED] * len(ids) + end])
    with torch.no_grad():
        loss = float(module.eval()(input_ids=torch.tensor([ids + end]), labels=labels).loss)
    assert loss < min(losses["before"].values()) - 0.5


def test_a_seed_decides_every_step(folders, tmp_path):
    short = replace(OPTIONS, steps=4)
    first, again = (tuned(folders, tmp_path / name, options=short) for name in ("first", "again"))
    other = tuned(folders, tmp_path / "other", options=replace(short, seed=2))
    assert first == again and first["curve"] != other["curve"]
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("first", "again", "other")]
    assert weights[0] == weights[1] != weights[2]


def test_a_folder_that_exists_and_other_parameters_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match="exists; give a new folder"):
        tuned(folders, tmp_path)
    with pytest.raises(InputError, match="parameters='half' is not known; choose from lora, full"):
        tuned(folders, tmp_path / "out", "half")


def test_rows_are_padded_to_the_longest_of_their_batch_and_batches_hold_rows_of_about_one_length():
    encoded = [(list(range(1, length + 1)), 2) for length in range(3, 103)]
    batches = list(row_batches(encoded, [1.0] * len(encoded), 16, 4, seed=0))
    assert len(batches) == 16
    spreads = []
    for ids, labels in batches:
        lengths = (ids > 0).sum(1)
        assert ids.shape == (4, int(lengths.max()))
        assert ((labels != IGNORED).sum(1) == lengths - 2).all()
        spreads.append(int(lengths.max() - lengths.min()))
    assert sum(spreads) / len(spreads) < 25  # 60 where four rows are drawn alone


def test_the_values_in_conf_are_options():
    config = composition.compose("demo_tune", ["base=b", "corpora=c", "out=o"])
    options = tune.Options(**{**config.options, "learning_rate": dict(config.options.learning_rate)})
    assert set(asdict(options)["learning_rate"]) == {"lora", "full"}
    assert config.parameters == "lora" and options.recipe("full").learning_rate == options.learning_rate["full"]
