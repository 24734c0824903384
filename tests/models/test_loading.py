"""Loading from every kind of source, the digests that identify a model, and every error."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from shiftbench import models
from shiftbench.errors import InputError
from tests.models.conftest import save_adapter
from tests.tiny import ARCHITECTURES, tiny_module, tiny_tokenizer

IDS = torch.arange(1, 20)[None]


def logits(module):
    with torch.no_grad():
        return module(input_ids=IDS).logits


def rewritten(folder, copy, change):
    """A copy of a model's folder with its weights changed in place by `change`."""
    shutil.copytree(folder, copy)
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folder_gives_the_model_that_was_saved(architecture, source, saved):
    model = models.load(source(saved(architecture)))
    assert torch.equal(logits(model.module), logits(tiny_module(architecture)))
    assert not model.module.training and not any(p.requires_grad for p in model.module.parameters())
    assert model.module.config._attn_implementation == "eager"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())
    assert (model.dtype, model.context_length, model.input_device) == ("float32", 256, torch.device("cpu"))
    assert (model.name, model.chat_template) == (str(saved(architecture)), None)
    assert model.views.layers == 2


def test_shards_are_the_same_model(source, saved, tmp_path):
    tiny_module("llama").save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    tiny_tokenizer().save_pretrained(tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    sharded = models.load(source(tmp_path / "shards"))
    assert sharded.weights_digest == models.load(source(saved())).weights_digest
    assert sharded.name != str(saved())


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_every_dtype(source, saved, dtype):
    model = models.load(source(saved(), dtype=dtype))
    assert {p.dtype for p in model.module.parameters()} == {getattr(torch, dtype)} and model.dtype == dtype


def test_a_device_map(source, saved):
    model = models.load(source(saved(), device_map={"": "cpu"}))
    assert torch.equal(logits(model.module), logits(tiny_module("llama")))
    assert model.weights_digest == models.load(source(saved())).weights_digest


def test_loading_is_quiet(source, saved, adapter, capfd, recwarn):
    models.load(source(saved(), adapter=str(adapter)))
    captured = capfd.readouterr()
    assert (captured.out, captured.err, [str(w.message) for w in recwarn]) == ("", "", [])


def test_a_tokenizer_from_another_place(source, saved, tmp_path):
    other = tiny_tokenizer()
    other.chat_template = "{{ messages[0]['content'] }}"
    other.save_pretrained(tmp_path)
    assert models.load(source(saved(), tokenizer=str(tmp_path))).chat_template == other.chat_template


# --- adapters


def test_an_adapter_merged_or_kept_is_the_same_function(source, saved, adapter):
    merged, kept = (models.load(source(saved(), adapter=str(adapter), merge_adapter=how)) for how in (True, False))
    wanted = peft.PeftModel.from_pretrained(tiny_module("llama"), adapter).eval()
    torch.testing.assert_close(logits(kept.module), logits(wanted))
    torch.testing.assert_close(logits(merged.module), logits(wanted), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(merged.views.query_HDE(1), kept.views.query_HDE(1))
    assert not torch.allclose(logits(kept.module), logits(tiny_module("llama")), atol=1e-2)
    assert len({merged.weights_digest, kept.weights_digest, models.load(source(saved())).weights_digest}) == 3


def test_an_adapter_takes_the_dtype_asked_for(source, saved, adapter):
    kept = models.load(source(saved(), adapter=str(adapter), merge_adapter=False, dtype="float64"))
    assert {p.dtype for p in kept.module.parameters()} == {torch.float64}
    assert logits(kept.module).dtype == torch.float64


def test_an_adapter_that_brings_a_tokenizer(source, saved, adapter, tmp_path):
    own = tiny_tokenizer()
    own.chat_template = "{{ messages[0]['content'] }}"
    shutil.copytree(adapter, tmp_path / "adapter")
    own.save_pretrained(tmp_path / "adapter")
    assert models.load(source(saved(), adapter=str(tmp_path / "adapter"))).chat_template == own.chat_template
    assert models.load(source(saved(), adapter=str(adapter))).chat_template is None


@pytest.mark.parametrize("change", [dict(hidden_size=48), dict(num_hidden_layers=3), dict(num_hidden_layers=1)])
def test_an_adapter_for_another_base(source, saved, tmp_path, change):
    other = tiny_module("llama", **change)
    save_adapter(other, tmp_path / "adapter", "some/other-base", target_modules=["q_proj", "down_proj"])
    with pytest.raises(InputError, match=r"adapter .*adapter does not fit.*some/other-base.*llama_") as refused:
        models.check(source(saved(), adapter=str(tmp_path / "adapter")))
    assert "\n" not in str(refused.value)


def test_an_adapter_for_another_architecture(source, saved, tmp_path):
    save_adapter(tiny_module("gpt2"), tmp_path / "adapter", "openai-community/gpt2", target_modules=["c_attn"])
    with pytest.raises(InputError, match=r"does not fit.*openai-community/gpt2"):
        models.check(source(saved(), adapter=str(tmp_path / "adapter")))


def test_an_adapter_that_changes_no_weight(source, saved, tmp_path):
    prompt = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    peft.get_peft_model(tiny_module("llama"), prompt).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"PROMPT_TUNING.*changes no weight"):
        models.check(source(saved(), adapter=str(tmp_path)))


def test_a_pickled_adapter(source, saved, adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    torch.save(weights, tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(InputError, match=r"no adapter_model.safetensors"):
        models.check(source(saved(), adapter=str(tmp_path / "adapter")))


def test_an_adapter_given_as_a_model(source, adapter):
    with pytest.raises(InputError, match="is a PEFT adapter"):
        models.check(source(adapter))


# --- what identifies a model


def test_one_changed_bit_changes_the_digest(source, saved, tmp_path):
    def flip(weights):
        bits = weights["model.layers.1.mlp.up_proj.weight"].view(torch.int32)
        bits[3, 5] ^= 1

    same = rewritten(saved(), tmp_path / "same", lambda weights: None)
    other = rewritten(saved(), tmp_path / "other", flip)
    digests = [models.load(source(folder)).weights_digest for folder in (saved(), same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_equal_weights_that_compute_otherwise_have_another_digest(source, saved, tmp_path):
    shutil.copytree(saved(), tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-2}))
    first, second = models.load(source(saved())), models.load(source(tmp_path / "other"))
    assert not torch.equal(logits(first.module), logits(second.module))
    assert first.weights_digest != second.weights_digest


def test_dtype_is_in_the_digest(source, saved):
    digests = {models.load(source(saved(), dtype=d)).weights_digest for d in ("float32", "float64")}
    assert len(digests) == 2


def test_shape_of_counts_what_loading_gives(source, saved):
    for architecture in ("llama", "gpt2"):
        shape = models.shape_of(source(saved(architecture)))
        assert shape.parameters == tiny_module(architecture).num_parameters()
        assert (shape.layers, shape.heads, shape.width, shape.vocabulary) == (2, 4, 32, 400)


def test_wrap_puts_everything_back():
    module = tiny_module("llama")
    module.set_attn_implementation("sdpa")
    module.train()
    module.model.embed_tokens.weight.requires_grad_(False)
    module.model.norm.eval()
    before = [(part.training, [p.requires_grad for p in part.parameters()]) for part in module.modules()]
    with pytest.raises(KeyError), models.wrap(module, tiny_tokenizer()) as model:
        assert model.module is module and module.config._attn_implementation == "eager"
        assert not module.training and not any(p.requires_grad for p in module.parameters())
        raise KeyError
    assert module.config._attn_implementation == "sdpa"
    assert [(part.training, [p.requires_grad for p in part.parameters()]) for part in module.modules()] == before


def test_wrap_takes_a_peft_model_with_its_adapter(saved, adapter):
    adapted = peft.PeftModel.from_pretrained(tiny_module("llama"), adapter)
    with models.wrap(adapted, tiny_tokenizer()) as model:
        torch.testing.assert_close(logits(model.module), logits(adapted))
        assert not torch.allclose(model.views.down_FD(0), tiny_module("llama").model.layers[0].mlp.down_proj.weight.T)


def test_wrap_refuses_what_is_no_language_model():
    with pytest.raises(InputError, match="got Linear"), models.wrap(torch.nn.Linear(2, 2), tiny_tokenizer()):
        pass


# --- errors


@pytest.mark.parametrize("path", ["/no/such/folder", "./nowhere", "~/nowhere", "a/b/c", "..", ""])
def test_a_path_that_is_no_folder_of_a_model(source, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such folder" if path != ".." else "model .."):
        models.check(source(path))


def test_a_file_is_not_a_folder(source, saved):
    with pytest.raises(InputError, match=r"config.json is a file; give the folder that holds it, or a GGUF file"):
        models.check(source(saved() / "config.json"))


@pytest.mark.parametrize(
    ("field", "value"), [("dtype", "float7"), ("device", "abacus"), ("device", "cuda:x"), ("device", "cuda:")]
)
def test_a_computation_that_there_is_not(source, saved, field, value):
    with pytest.raises(InputError, match=f"{field}='{value}' is not known; choose from"):
        models.check(source(saved(), **{field: value}))


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="this machine has the device")
def test_a_device_that_this_machine_has_not(source, saved):
    with pytest.raises(InputError, match=r"device=cuda:7: this machine has \d+ CUDA devices"):
        models.check(source(saved(), device="cuda:7"))


def test_pickled_weights_are_refused(source, saved, tmp_path):
    shutil.copytree(saved(), tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    torch.save(tiny_module("llama").state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"only pickled weights \(pytorch_model.bin\); only safetensors are read"):
        models.check(source(tmp_path / "pickled"))


def test_a_folder_without_weights(source, saved, tmp_path):
    shutil.copytree(saved(), tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(InputError, match="has no weights"):
        models.check(source(tmp_path / "bare"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_weight_that_is_not_finite_is_named(source, saved, tmp_path, value):
    def spoil(weights):
        weights["model.layers.1.mlp.down_proj.weight"][3, 5] = value

    folder = rewritten(saved(), tmp_path / "spoiled", spoil)
    with pytest.raises(InputError, match=r"weight 'model.layers.1.mlp.down_proj.weight' has NaN or inf"):
        models.load(source(folder))


def test_a_weight_that_the_files_lack_is_named(source, saved, tmp_path):
    folder = rewritten(saved(), tmp_path / "lacking", lambda weights: weights.pop("model.layers.0.mlp.up_proj.weight"))
    with pytest.raises(InputError, match=r"no weight 'model.layers.0.mlp.up_proj.weight' in its files \(1 are missing"):
        models.load(source(folder))


def test_a_damaged_file_is_one_line(source, saved, tmp_path):
    shutil.copytree(saved(), tmp_path / "damaged")
    file = tmp_path / "damaged" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged: ") as refused:
        models.load(source(tmp_path / "damaged"))
    assert "\n" not in str(refused.value)


def test_a_gguf_file_that_is_not_there(source, saved):
    with pytest.raises(InputError, match=r"gguf_file=model.gguf: there is no such file in .*llama_0"):
        models.check(source(saved(), gguf_file="model.gguf"))


def test_a_quantised_checkpoint(source, saved, tmp_path):
    shutil.copytree(saved(), tmp_path / "quantised")
    config = json.loads((tmp_path / "quantised" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (tmp_path / "quantised" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="is quantised"):
        models.check(source(tmp_path / "quantised"))


def test_code_that_comes_with_a_model_is_not_run(source, saved, tmp_path):
    shutil.copytree(saved(), tmp_path / "custom")
    config = json.loads((tmp_path / "custom" / "config.json").read_text())
    config.update(model_type="custom", auto_map={"AutoConfig": "configuration_custom.Custom"})
    (tmp_path / "custom" / "config.json").write_text(json.dumps(config))
    (tmp_path / "custom" / "configuration_custom.py").write_text("raise SystemExit('the code was run')")
    with pytest.raises(InputError, match="trust_remote_code"):
        models.check(source(tmp_path / "custom"))


# --- the hub, played by a server on this machine

HUB = """
import sys
from shiftbench import models
from shiftbench.errors import InputError
fixed = dict(revision=None, adapter=None, merge_adapter=True, gguf_file=None, tokenizer=None, dtype="float32",
             device="cpu", device_map=None, trust_remote_code=False)
for path in sys.argv[1:]:
    try:
        models.check(models.ModelSource(path=path, **fixed))
    except InputError as error:
        print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for a gated or a missing model."""

    def do_GET(self):
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("X-Error-Message", f"{'You must accept the license' if gated else 'Repository not found'}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.long
def test_the_hubs_reason_is_given_in_one_line(tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    env = {
        **os.environ,
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_OFFLINE": "0",
    }
    ran = subprocess.run(
        [sys.executable, "-c", HUB, "org/gated", "org/missing"], env=env, capture_output=True, text=True, timeout=300
    )
    server.shutdown()
    assert ran.stdout.splitlines() == [
        "model org/gated: You must accept the license",
        "model org/missing: Repository not found",
    ], ran.stderr


def test_a_hub_that_cannot_be_reached(source, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="model no-such-org/no-such-model: ") as refused:
        models.check(source("no-such-org/no-such-model"))
    assert "\n" not in str(refused.value)
