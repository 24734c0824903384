"""The scaling factor of a kept adapter changes the numbers, so it changes the digest."""

import json
import shutil

import peft
from hydra.utils import instantiate

from shiftbench import models
from shiftbench.config import composition
from tests.tiny import tiny_module, tiny_tokenizer


def test_another_factor_is_another_digest(tmp_path):
    tiny_module("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    adapted = peft.get_peft_model(
        tiny_module("llama"), peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    adapted.save_pretrained(str(tmp_path / "adapter"))
    shutil.copytree(tmp_path / "adapter", tmp_path / "doubled")
    settings = json.loads((tmp_path / "doubled" / "adapter_config.json").read_text())
    (tmp_path / "doubled" / "adapter_config.json").write_text(json.dumps({**settings, "lora_alpha": 8}))
    digests = [digest(tmp_path, name) for name in ("adapter", "adapter", "doubled")]
    assert digests[0] == digests[1] != digests[2]


def digest(folder, adapter):
    words = ["pair=local", f"pair.base={folder / 'base'}", f"pair.tuned={folder / adapter}"]
    pair = instantiate(composition.compose("config", [*words, "pair.tuned_model.merge_adapter=false"]).pair)
    return models.load(pair.tuned).weights_digest
