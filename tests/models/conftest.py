"""Fixtures: folders with tiny models, and ModelSources for them."""

from pathlib import Path

import peft
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from shiftbench.models import ModelSource
from tests.tiny import tiny_module, tiny_tokenizer

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def source():
    """Makes a ModelSource with the defaults of conf/model, some of them changed."""

    def make(path, **change) -> ModelSource:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", ["pair=local", "pair.base=b", "pair.tuned=t", "device=cpu"])
        return instantiate(config.pair.base_model)(path=str(path), **change)

    return make


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """Saves a tiny model with the tiny tokenizer. Equal calls return the same folder."""
    root, made = tmp_path_factory.mktemp("models"), {}

    def save(architecture="llama", **change) -> Path:
        key = str((architecture, sorted(change.items())))
        if key not in made:
            made[key] = root / f"{architecture}_{len(made)}"
            tiny_module(architecture, **change).save_pretrained(made[key])
            tiny_tokenizer().save_pretrained(made[key])
        return made[key]

    return save


@pytest.fixture(scope="session")
def adapter(tmp_path_factory, saved):
    """A LoRA adapter on every linear layer of the tiny Llama, with random weights."""
    folder = tmp_path_factory.mktemp("adapter") / "lora"
    save_adapter(tiny_module("llama"), folder, str(saved()))
    return folder


def save_adapter(module, folder, base, **change):
    fixed = dict(r=2, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    lora = peft.LoraConfig(base_model_name_or_path=base, **{**fixed, **change})
    adapted = peft.get_peft_model(module, lora)
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(folder)
