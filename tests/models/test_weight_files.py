"""Only checked safetensors and GGUF files are opened, whatever an index, a configuration or a link says."""

import json
import os
import pickle
import shutil
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations import hub_kernels

from shiftbench import models
from shiftbench.errors import InputError
from tests.models.gguf_file import one_more, write_gguf
from tests.tiny import tiny_module, tiny_tokenizer

INDEX = "model.safetensors.index.json"


@pytest.fixture
def copied(saved, tmp_path):
    """A copy of the tiny Llama's folder."""
    return Path(shutil.copytree(saved(), tmp_path / "model"))


@pytest.fixture
def sharded(tmp_path):
    """The tiny Llama in shards."""
    tiny_module("llama").save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    tiny_tokenizer().save_pretrained(tmp_path / "shards")
    return tmp_path / "shards"


def change_json(file, **change):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **change}))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def mapped_to(folder, name):
    """The folder's index maps every weight to `name`."""
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], name)
    (folder / INDEX).write_text(json.dumps(index))


class Planted:
    """Unpickling an instance creates a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


# --- pickled weights, and files outside the folder


@pytest.mark.parametrize("name", ["weights.bin", "../outside.safetensors", "/etc/passwd", ".hidden.safetensors", "", 7])
def test_an_index_leads_to_no_other_file(source, sharded, name):
    ran = sharded.parent / "ran"
    (sharded / "weights.bin").write_bytes(pickle.dumps(Planted(ran)))
    shutil.copy(next(sharded.glob("*.safetensors")), sharded.parent / "outside.safetensors")
    (sharded / "decoy.safetensors").write_bytes(b"")
    mapped_to(sharded, name)
    with pytest.raises(InputError, match=r"index.json says that '.*' is in .*no safetensors file of the folder"):
        models.check(source(sharded))
    assert not ran.exists()


def test_pickled_bytes_under_a_safetensors_name(source, copied):
    torch.save(tiny_module("llama").state_dict(), copied / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors is no safetensors file: it is pickled"):
        models.check(source(copied))


def test_a_decoy_is_no_file_of_weights(source, copied):
    (copied / "model.safetensors").rename(copied / "decoy.safetensors")
    torch.save({}, copied / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"has only pickled weights \(pytorch_model.bin\)"):
        models.check(source(copied))
    (copied / "pytorch_model.bin").unlink()
    with pytest.raises(
        InputError, match=r"safetensors files .decoy.safetensors. but neither model.safetensors nor .*index.json"
    ):
        models.check(source(copied))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index.pop("weight_map"), "has no weight_map"),
        (lambda index: index["weight_map"].update({"new.weight": "model-00001-of-00099.safetensors"}), "No such file"),
        (
            lambda index: index["weight_map"].update({"new": min(index["weight_map"].values())}),
            "holds 'new', and it does",
        ),
    ],
)
def test_an_index_is_held_against_the_headers(source, sharded, change, said):
    index = json.loads((sharded / INDEX).read_text())
    change(index)
    (sharded / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=said):
        models.check(source(sharded))


def test_a_weight_in_two_shards(source, sharded):
    first, second = sorted(sharded.glob("*.safetensors"))[:2]
    save_file({**load_file(first), **load_file(second)}, first, metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"model-00001-of-\d+.safetensors and model-00002-of-\d+.safetensors both hold"
    ):
        models.check(source(sharded))


def test_a_link_that_leads_out_of_the_folder(source, copied):
    (copied / "model.safetensors").rename(copied.parent / "elsewhere.safetensors")
    (copied / "model.safetensors").symlink_to("../elsewhere.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors is a link that leads out of the folder, to .*elsewhere"):
        models.check(source(copied))


def test_a_folder_that_is_a_link_is_taken(source, copied):
    (copied.parent / "link").symlink_to(copied)
    (copied / "model.safetensors").rename(copied / "real.safetensors")
    (copied / "model.safetensors").symlink_to("real.safetensors")
    assert models.load(source(copied.parent / "link")).name == str(copied.parent / "link")


@pytest.mark.parametrize("field", ["transformers_weights", "configuration_files"])
def test_a_configuration_names_no_other_file(source, copied, field):
    change_json(copied / "config.json", **{field: "other.safetensors"})
    with pytest.raises(InputError, match=f"config.json: {field} names other files"):
        models.check(source(copied))


def test_what_lies_beside_is_not_read(source, copied, saved):
    """Where the folder holds a distributed checkpoint too, transformers reads that instead of model.safetensors."""
    (copied / "shard-00000-model-00001-of-00001.safetensors").write_bytes(b"no weights")
    (copied / "custom_generate").mkdir()
    (copied / "custom_generate" / "generate.py").write_text("raise SystemExit('the code was run')")
    assert models.load(source(copied)).weights_digest == models.load(source(saved())).weights_digest


def test_an_adapter_beside_the_weights_is_asked_about(source, copied, adapter):
    for file in adapter.glob("adapter_*"):
        shutil.copy(file, copied)
    with pytest.raises(
        InputError, match=r"has a PEFT adapter beside its weights .*pair.tuned=BASE pair.tuned_model.adapter="
    ):
        models.check(source(copied))
    assert models.load(source(copied, adapter=str(copied))).source.adapter == str(copied)


def test_a_working_directory_holds_no_gguf_file_of_the_model(source, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "model").mkdir()
    write_gguf(tmp_path / "model" / "m.gguf")
    (tmp_path / "here" / "m.gguf").write_bytes(b"another file")
    monkeypatch.chdir(tmp_path / "here")
    model = models.load(source(tmp_path / "model", gguf_file="m.gguf"))
    assert model.module.config.quantization_config.gguf_file == "m.gguf"
    torch.testing.assert_close(model.module.lm_head.weight, tiny_module("llama").lm_head.weight)


# --- the hub's cache


@pytest.fixture
def in_cache(saved, tmp_path, monkeypatch):
    """Puts the tiny Llama into a folder laid out as the hub's cache; returns the folder of the repository."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    revision = "a" * 40
    repository = tmp_path / "hub" / "models--org--model"
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(saved().iterdir())):
        shutil.copy(file, repository / "blobs" / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    return repository


def test_links_into_the_caches_own_blobs_are_taken(source, saved, in_cache):
    for revision in (None, "main", "a" * 40):
        model = models.load(source("org/model", revision=revision))
        assert model.weights_digest == models.load(source(saved())).weights_digest and model.name == "org/model"


def test_a_revision_that_is_not_in_the_cache(source, in_cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        InputError, match=r"model org/model: it is not in the hub's cache, and HF_HUB_OFFLINE=1 forbids"
    ):
        models.check(source("org/model", revision="b" * 40))


def test_weights_that_are_not_in_the_cache(source, in_cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    next(in_cache.glob("snapshots/*/model.safetensors")).unlink()
    models.check(source("org/model"))
    with pytest.raises(
        InputError, match=r"model org/model: it is not in the hub's cache, and HF_HUB_OFFLINE=1 forbids"
    ):
        models.load(source("org/model"))


def test_a_link_out_of_the_cache(source, in_cache, saved):
    link = next(in_cache.glob("snapshots/*/model.safetensors"))
    link.unlink()
    link.symlink_to(saved() / "model.safetensors")
    with pytest.raises(InputError, match="is a link that leads out of the folder"):
        models.check(source("org/model"))


def test_a_repository_of_pickled_weights_in_the_cache(source, in_cache):
    link = next(in_cache.glob("snapshots/*/model.safetensors"))
    link.rename(link.with_name("pytorch_model.bin"))
    marks = in_cache / ".no_exist" / ("a" * 40)
    marks.mkdir(parents=True)
    for name in ("model.safetensors", INDEX):
        (marks / name).write_text("")
    with pytest.raises(InputError, match=r"only pickled weights \(pytorch_model.bin\)"):
        models.load(source("org/model"))


# --- quantised weights


def test_8_bit_weights_with_scales_beside_are_quantised(source, copied):
    def quantise(weights):
        for name in [name for name in weights if name.endswith("proj.weight")]:
            scale = weights[name].abs().max() / 448
            weights[name.replace("weight", "weight_scale")] = scale
            weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)

    change_weights(copied, quantise)
    with pytest.raises(InputError, match=r"is quantised: model.safetensors holds '.*proj.weight' as F8_E4M3; give the"):
        models.check(source(copied))
    (copied / "hf_quant_config.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"and hf_quant_config.json is in the folder; give the checkpoint it was made from"
    ):
        models.check(source(copied))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.uint32, torch.int64, torch.bool])
def test_integers_are_no_weights(source, copied, dtype):
    change_weights(copied, lambda weights: weights.update({"lm_head.weight": weights["lm_head.weight"].to(dtype)}))
    with pytest.raises(InputError, match=r"is quantised: model.safetensors holds 'lm_head.weight' as"):
        models.check(source(copied))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.layers.0.mlp.up_proj.weight_scale_inv", "looks quantised"),
        ("model.layers.0.self_attn.q_proj.bias", "is its config.json the right one"),
        ("model.layers.2.mlp.up_proj.weight", "is its config.json the right one"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "is its config.json the right one"),
    ],
)
def test_weights_that_the_model_has_no_place_for_are_refused(source, copied, name, said):
    change_weights(copied, lambda weights: weights.update({name: torch.ones(3)}))
    with pytest.raises(InputError, match=rf"its files hold '{name}' \(1 such weights\).*{said}"):
        models.load(source(copied))


def test_weights_that_no_pass_needs_are_left_out(source, copied, saved):
    known = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "model.layers.0.attn.bias": torch.ones(1, 1, 8, 8, dtype=torch.uint8),
        "model.layers.0.attn.masked_bias": torch.tensor(-1e4),
        "v_head.summary.weight": torch.ones(1, 32),
    }
    change_weights(copied, lambda weights: weights.update(known))
    assert models.load(source(copied)).weights_digest == models.load(source(saved())).weights_digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (one_more("blk.0.attn_q.bias", 32), "holds .* weights, and the model that it describes has .*left out"),
        (one_more("rope_freqs.weight"), r"has RoPE factors \(rope_freqs.weight\), which transformers ignores"),
        (lambda writer: writer.add_string("llama.rope.scaling.type", "yarn"), "has RoPE scaling of type 'yarn'"),
        (one_more("blk.0.attn_q.scale", 4, np.int8), "holds 'blk.0.attn_q.scale' as integers"),
    ],
)
def test_what_a_gguf_file_holds_and_nobody_reads_is_refused(source, tmp_path, change, said):
    write_gguf(tmp_path / "m.gguf", change)
    with pytest.raises(InputError, match=said):
        models.check(source(tmp_path, gguf_file="m.gguf"))


# --- code that a configuration chooses


@pytest.fixture
def no_kernels(monkeypatch):
    """Makes every download of a kernel and every request to the network fail."""

    def fail(*_, **__):
        raise SystemExit("a kernel was asked for")

    for name in ("get_kernel", "load_and_register_attn_kernel", "lazy_load_kernel"):
        monkeypatch.setattr(hub_kernels, name, fail)
    monkeypatch.setattr("transformers.modeling_flash_attention_utils.lazy_import_flash_attention", fail)
    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", fail)
    monkeypatch.setattr(socket, "create_connection", fail)
    monkeypatch.setattr(socket.socket, "connect", fail)


@pytest.mark.parametrize(
    "choice",
    [
        {"_attn_implementation": "someone/kernel"},
        {"attn_implementation": "someone/kernel"},
        {"attn_implementation": {"": "someone/kernel", "text_config": "someone/kernel"}},
        {"_attn_implementation_internal": "someone/kernel"},
        {"_experts_implementation": "someone/kernel", "experts_implementation": "someone/kernel"},
        {"use_kernels": True, "kernel_config": {"LlamaRMSNorm": "someone/kernel"}, "allow_all_kernels": True},
        {"fusion_config": {"rms_norm": "someone/kernel"}, "distributed_config": {"tp_size": 2}},
    ],
    ids=str,
)
@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_no_file_chooses_the_code_that_computes(source, copied, adapter, no_kernels, choice, file):
    change_json(copied / file, **choice)
    models.check(source(copied, adapter=str(adapter)))
    models.shape_of(source(copied))
    loaded = models.load(source(copied)).module
    assert loaded.config._attn_implementation == "eager"
    torch.testing.assert_close(loaded.lm_head.weight, tiny_module("llama").lm_head.weight)


def test_trusted_code_is_no_reason_to_fetch_a_kernel(source, copied, saved, no_kernels):
    change_json(copied / "config.json", _attn_implementation="someone/kernel")
    loaded = models.load(source(copied, trust_remote_code=True))
    assert loaded.module.config._attn_implementation == "eager"
    assert loaded.weights_digest == models.load(source(saved())).weights_digest


def test_the_planted_choice_would_fetch_a_kernel(copied, no_kernels):
    """The setting of the test above reaches the loader of kernels where transformers reads the folder itself."""
    from transformers import AutoConfig, AutoModelForCausalLM

    change_json(copied / "config.json", _attn_implementation="someone/kernel")
    with pytest.raises(SystemExit, match="a kernel was asked for"):
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(copied))


# --- what stands in the place of a file


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", INDEX])
def test_a_git_lfs_pointer_is_called_that(source, sharded, copied, name):
    folder = sharded if name == INDEX else copied
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234567\n")
    with pytest.raises(InputError, match=rf"{name} is a git-lfs pointer of \d+ bytes.*run `git lfs pull` in {folder}"):
        models.load(source(folder))


def test_a_git_lfs_pointer_of_a_gguf_file(source, tmp_path):
    (tmp_path / "m.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234567\n")
    with pytest.raises(InputError, match=r"m.gguf is a git-lfs pointer"):
        models.check(source(tmp_path, gguf_file="m.gguf"))


def test_a_header_that_lies_about_its_length(source, copied):
    content = bytearray((copied / "model.safetensors").read_bytes())
    struct.pack_into("<Q", content, 0, 2**62)
    (copied / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="no whole safetensors file"):
        models.check(source(copied))
