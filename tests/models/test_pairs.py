"""Pairs as conf/ describes them, and every reason why two models cannot be compared."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from shiftbench.config.composition import register_resolvers
from shiftbench.errors import InputError
from shiftbench.models import pairs
from tests.models.conftest import save_adapter
from tests.tiny import tiny_module, tiny_tokenizer

CONF = Path(__file__).parents[2] / "conf"
NAMED = sorted(path.stem for path in (CONF / "pair").glob("*.yaml") if path.stem != "local")


def composed(*overrides):
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose("config", ["device=cpu", *overrides]).pair)


def local(base, tuned, *overrides):
    return composed("pair=local", f"pair.base={base}", f"pair.tuned={tuned}", *overrides)


def save(folder, architecture="llama", tokenizer=None, **change):
    tiny_module(architecture, **change).save_pretrained(folder)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save(tmp_path_factory.mktemp("pair") / "base")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return save(tmp_path_factory.mktemp("pair") / "tuned", seed=1)


@pytest.mark.parametrize("name", NAMED)
def test_a_named_pair_has_two_models(name):
    pair = composed(f"pair={name}")
    assert pair.name == name and pair.base.path and pair.tuned != pair.base
    for source in (pair.base, pair.tuned):
        assert (source.dtype, source.device, source.trust_remote_code) == ("float32", "cpu", False)


def test_a_local_pair_is_named_after_its_tuned_folder(base, tuned):
    pair = local(base, tuned)
    assert (pair.name, pair.base.path, pair.tuned.path) == ("tuned", str(base), str(tuned))
    assert local(base, "org/model").name == "model"
    assert local(base, tuned, "pair.name=mine").name == "mine"


def test_each_model_is_told_apart_and_what_is_general_reaches_both(base, tuned):
    pair = local(base, tuned, "dtype=float64", "pair.tuned_model.revision=v2", "pair.tuned_model.device_map=auto")
    assert (pair.base.dtype, pair.tuned.dtype) == ("float64", "float64")
    assert (pair.base.revision, pair.tuned.revision) == (None, "v2")
    assert (pair.base.device_map, pair.tuned.device_map) == (None, "auto")


def test_a_pair_is_loaded(base, tuned):
    loaded = pairs.load_pair(local(base, tuned))
    first, second = loaded.base, loaded.tuned
    assert first.weights_digest != second.weights_digest
    assert first.tokenizer_digest == second.tokenizer_digest


def test_a_model_and_itself_is_loaded_once(base):
    loaded = pairs.load_pair(local(base, base))
    first, second = loaded.base, loaded.tuned
    assert first is second


@pytest.mark.parametrize("merge", ["true", "false"])
def test_a_tuned_folder_that_is_an_adapter_goes_on_base(base, tmp_path, merge):
    save_adapter(tiny_module("llama"), tmp_path / "lora", str(base))
    pair = local(base, tmp_path / "lora", "pair.base_model.revision=r", f"pair.tuned_model.merge_adapter={merge}")
    assert (pair.name, pair.tuned.path, pair.tuned.adapter) == ("lora", str(base), str(tmp_path / "lora"))
    assert pair.tuned.revision == "r" and pair.tuned.tokenizer is None
    named = local(base, tmp_path / "lora", f"pair.tuned_model.tokenizer={tmp_path}")
    assert named.tuned.tokenizer == str(tmp_path) and named.base.tokenizer is None
    loaded = pairs.load_pair(pair)
    first, second = loaded.base, loaded.tuned
    assert not torch.equal(first.views.down_FD(0), second.views.down_FD(0))
    again = local(
        base, base, f"pair.tuned_model.adapter={tmp_path / 'lora'}", f"pair.tuned_model.merge_adapter={merge}"
    )
    assert pairs.load_pair(again).tuned.weights_digest == second.weights_digest


def test_a_tuned_model_may_have_more_special_tokens_and_rows(base, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    pairs.check(local(base, save(tmp_path / "chat", tokenizer=tokenizer, vocab_size=416)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(hidden_size=48), r"width differ \(32 and 48\)"),
        (dict(num_hidden_layers=3), r"layers differ \(2 and 3\)"),
        (dict(num_attention_heads=2), r"heads differ \(4 and 2\)"),
        (dict(num_key_value_heads=4), r"key heads differ \(2 and 4\)"),
        (dict(intermediate_size=96), r"feed-forward width differ \(64 and 96\)"),
        (dict(architecture="qwen2"), r"architectures differ \(llama and qwen2\)"),
    ],
    ids=str,
)
def test_models_of_other_shapes_are_no_pair(base, tmp_path, change, said):
    with pytest.raises(InputError, match=f"base and .*other are not a pair: their {said}"):
        pairs.check(local(base, save(tmp_path / "other", **change)))


def test_tokenizers_that_differ_are_told_by_the_first_token(base, tuned, tmp_path):
    shutil.copytree(tuned, tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    parts = json.loads(file.read_text())
    vocabulary = parts["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    file.write_text(json.dumps(parts))
    with pytest.raises(InputError, match=r"tokenizers of .*base and .*other differ: token \d+ is 'A' in base and 'B'"):
        pairs.check(local(base, tmp_path / "other"))


def test_checking_reads_no_weights(base, tuned, tmp_path):
    """A weight that is not finite is found only when weights are read."""
    shutil.copytree(tuned, tmp_path / "spoiled")
    file = tmp_path / "spoiled" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\xff" * 4)
    pairs.check(local(base, tmp_path / "spoiled"))
    with pytest.raises(InputError, match="has NaN or inf"):
        _ = pairs.load_pair(local(base, tmp_path / "spoiled")).tuned
