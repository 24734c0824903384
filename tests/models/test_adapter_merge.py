"""A model with an adapter computes what PEFT computes: merged where a merge computes the same, otherwise kept."""

import gc
import json
import re
import shutil

import peft
import pytest
import torch

from shiftbench import models
from shiftbench.config import composition
from shiftbench.errors import InputError
from shiftbench.models import adapter as adapters
from tests.models.conftest import save_adapter
from tests.tiny import tiny_module, tiny_tokenizer

IDS = torch.arange(1, 20)[None]
LORA = dict(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False)


@torch.no_grad()
def logits(module):
    return module(input_ids=IDS).logits


@pytest.fixture
def trained(tmp_path):
    """Saves a tiny base and an adapter none of whose weights is zero; returns (base, adapter, PEFT's own logits)."""

    def make(tied, config):
        base = tmp_path / f"base_{tied}"
        tiny_module("llama", tie_word_embeddings=tied).save_pretrained(base)
        tiny_tokenizer().save_pretrained(base)
        torch.manual_seed(1)
        adapted = peft.get_peft_model(tiny_module("llama", tie_word_embeddings=tied), config)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        adapted.save_pretrained(tmp_path / "adapter")
        return base, tmp_path / "adapter", logits(adapted.eval())

    return make


def is_kept(model):
    return any(isinstance(part, peft.tuners.tuners_utils.BaseTunerLayer) for part in model.module.modules())


@pytest.mark.parametrize("change", [dict(), dict(ensure_weight_tying=True)], ids=["untied", "both_tied"])
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_a_lora_on_one_of_two_tied_embeddings_is_kept_with_a_note(trained, source, target, change):
    lora = peft.LoraConfig(**{**LORA, "target_modules": ["q_proj", target]}, **change)
    base, folder, wanted = trained(True, lora)
    model = models.load(source(base, adapter=str(folder)))
    torch.testing.assert_close(logits(model.module), wanted, rtol=1e-4, atol=1e-4)
    assert is_kept(model)
    (note,) = model.notes
    assert "kept beside the weights and not merged" in note and "which merging would change too" in note
    assert re.search(r"its layer '\S*(embed_tokens|lm_head)' shares a weight with '\S*(embed_tokens|lm_head)'", note)


@pytest.mark.parametrize(
    ("tied", "change"),
    [
        (False, dict(target_modules=["q_proj", "embed_tokens", "lm_head"])),
        (True, dict(modules_to_save=["embed_tokens"])),
        (True, dict(trainable_token_indices=[3, 5])),
        (True, dict()),
    ],
    ids=["lora_on_both", "a_copy_of_the_embeddings", "some_tokens", "linear_layers"],
)
def test_what_merges_into_the_same_function_is_merged(trained, source, tied, change):
    base, folder, wanted = trained(tied, peft.LoraConfig(**{**LORA, **change}))
    model = models.load(source(base, adapter=str(folder)))
    torch.testing.assert_close(logits(model.module), wanted, rtol=1e-4, atol=1e-4)
    assert not is_kept(model) and model.notes == ()
    plain = peft.PeftModel.from_pretrained(tiny_module("llama", tie_word_embeddings=tied), folder).merge_and_unload()
    merged = model.module.state_dict()
    assert all(torch.equal(merged[name], tensor) for name, tensor in plain.state_dict().items())


@pytest.mark.long
def test_a_merge_that_is_another_function_is_undone_by_reading_the_base_again(trained, source, monkeypatch):
    base, folder, wanted = trained(False, peft.LoraConfig(**LORA))
    merge, in_memory = peft.tuners.lora.LoraModel.merge_and_unload, []

    def wrong(self):
        module = merge(self)
        module.model.layers[1].self_attn.q_proj.weight.data.mul_(1.01)
        return module

    read = adapters._put_on_base

    def counted(*arguments):
        gc.collect()
        in_memory.append(sum(isinstance(found, peft.PeftModel) for found in gc.get_objects()))
        return read(*arguments)

    monkeypatch.setattr(peft.tuners.lora.LoraModel, "merge_and_unload", wrong)
    monkeypatch.setattr(adapters, "_put_on_base", counted)
    model = models.load(source(base, adapter=str(folder)))
    torch.testing.assert_close(logits(model.module), wanted)
    assert is_kept(model) and "merging moves the logits of 8 tokens by" in model.notes[0]
    assert len(in_memory) == 2 and in_memory[1] <= in_memory[0]  # the first model is freed before the second is read
    monkeypatch.undo()
    kept = models.load(source(base, adapter=str(folder), merge_adapter=False))
    assert model.weights_digest == kept.weights_digest and kept.notes == ()


def test_a_merge_that_peft_refuses_is_kept(trained, source):
    # PEFT cannot merge a bias into a layer that has none.
    base, folder, wanted = trained(False, peft.LoraConfig(**LORA, lora_bias=True))
    model = models.load(source(base, adapter=str(folder)))
    torch.testing.assert_close(logits(model.module), wanted, rtol=1e-4, atol=1e-4)
    assert is_kept(model) and "PEFT cannot merge it: " in model.notes[0]


@pytest.fixture
def adalora(tmp_path):
    """An AdaLoRA adapter that PEFT has trained, with another rank in each layer; returns (folder, PEFT's logits)."""
    torch.manual_seed(1)
    steps = dict(tinit=1, tfinal=2, deltaT=1, total_step=6)
    config = peft.AdaLoraConfig(
        init_r=6, target_r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", **steps
    )
    adapted = peft.get_peft_model(tiny_module("llama"), config)
    optimiser = torch.optim.SGD([each for each in adapted.parameters() if each.requires_grad], lr=0.5)
    for step in range(1, 6):
        adapted(input_ids=IDS, labels=IDS).loss.backward()
        optimiser.step()
        adapted.base_model.update_and_allocate(step)
        optimiser.zero_grad()
    adapted.save_pretrained(tmp_path / "adalora")
    return tmp_path / "adalora", logits(adapted.eval())


@pytest.mark.parametrize("merge", [True, False])
def test_an_adalora_adapter_with_the_ranks_of_its_training_computes_what_peft_computes(adalora, source, saved, merge):
    folder, wanted = adalora
    ranks = json.loads((folder / "adapter_config.json").read_text())["rank_pattern"]
    assert len({sum(kept) for kept in ranks.values()}) > 1 and all(len(kept) == 6 for kept in ranks.values())
    asked = source(saved(), adapter=str(folder), merge_adapter=merge)
    models.check(asked)
    model = models.load(asked)
    torch.testing.assert_close(logits(model.module), wanted, rtol=1e-4, atol=1e-4)
    assert is_kept(model) != merge and model.notes == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda ranks: {name: [True] * 6 for name in ranks}, r"weight '.*' would have shape \(6, 64\)"),
        (
            lambda ranks: {"model.layers.7.lora_E": [True] * 6, **ranks},
            "names 'model.layers.7.lora_E', which the adapt",
        ),
        (lambda ranks: None, r"weight '.*' would have shape \(6, 64\)"),
    ],
)
def test_ranks_of_adalora_that_do_not_fit_its_weights_are_refused(adalora, source, saved, change, why):
    folder, _ = adalora
    ranks = json.loads((folder / "adapter_config.json").read_text())["rank_pattern"]
    edit(folder, rank_pattern=change(ranks))
    with pytest.raises(InputError, match=why):
        models.check(source(saved(), adapter=str(folder)))


def test_shares_as_ranks_of_osf_are_accepted(trained, source):
    config = peft.OSFConfig(
        target_modules=["q_proj", "down_proj"], effective_rank=8, rank_pattern={"q_proj": 0.25}, task_type="CAUSAL_LM"
    )
    base, folder, wanted = trained(False, config)
    models.check(source(base, adapter=str(folder)))
    model = models.load(source(base, adapter=str(folder)))
    torch.testing.assert_close(logits(model.module), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_rounding_alone_keeps_no_adapter_from_being_merged(source, saved, adapter, dtype):
    model = models.load(source(saved(), adapter=str(adapter), dtype=dtype))
    assert not is_kept(model) and model.notes == ()


def test_logits_that_overflow_are_an_error_that_names_model_and_dtype(source, saved, tmp_path):
    save_adapter(tiny_module("llama"), tmp_path, str(saved()), lora_alpha=10**7)
    with pytest.raises(InputError, match=r"llama_\d \+ .* in float16: the logits .* not finite .*use dtype=bfloat16"):
        models.load(source(saved(), adapter=str(tmp_path), dtype="float16"))


def test_a_kept_adapter_of_another_type_has_its_settings_in_the_digest(trained, source):
    base, folder, _ = trained(False, peft.LoHaConfig(r=2, alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    digests = []
    for alpha in (4, 4, 8):
        edit(folder, alpha=alpha)
        model = models.load(source(base, adapter=str(folder), merge_adapter=False))
        digests.append(model.weights_digest)
    assert digests[0] == digests[1] != digests[2]


# --- configurations of adapters that are refused before PEFT builds anything


@pytest.fixture
def changed(source, saved, adapter, tmp_path):
    """Checks a copy of the adapter whose configuration is changed."""
    shutil.copytree(adapter, tmp_path / "changed")

    def check(text=None, **fields):
        edit(tmp_path / "changed", **fields)
        if text is not None:
            (tmp_path / "changed" / "adapter_config.json").write_text(text)
        models.check(source(saved(), adapter=str(tmp_path / "changed")))

    return check


def edit(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "peft_type None is not known"),
        ("null", "must hold a JSON object, got NoneType"),
        ("[]", "must hold a JSON object, got list"),
        ("{", "is not JSON"),
        ('{"peft_type": "LORA", "peft_type": "IA3"}', "gives the key 'peft_type' twice"),
        (f'{{"a": "{"x" * 2**20}"}}', "the file is too large"),
    ],
)
def test_a_configuration_that_is_none_is_refused(changed, text, why):
    with pytest.raises(InputError, match=f"changed: adapter_config.json:? .*{why}") as refused:
        changed(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (dict(peft_type="NOPE"), r"peft_type 'NOPE' is not known to PEFT .*known are ADALORA"),
        (dict(peft_type=["LORA"]), r"peft_type \['LORA'\] is not known"),
        (dict(peft_type="XLORA"), "of type XLORA: it also loads other adapters"),
        (dict(peft_type="SHADOW", shadow_model="a/b"), "of type SHADOW: it also loads another model"),
        (dict(target_modules="(("), "unterminated subpattern"),
        (dict(target_modules=7), "target_modules must be a pattern, a list of names or null, got '7'"),
        (dict(target_modules=["q_proj"] * 10_001), "target_modules has 10,001 entries"),
        (dict(r="x"), "r must be a whole number, got 'x'"),
        (dict(r=None), "r must be a whole number, got 'None'"),
        (dict(r=0), "`r` should be a positive integer"),
        (dict(r=3), r"weight '.*lora_A.weight' would have shape \(3, 64\), not \(2, 64\)"),
        (dict(r=10**9), r"it declares [\d,]+ numbers, and its file holds"),
        (dict(r=10**30), "Overflow"),
        (dict(rank_pattern={"q_proj": 10**9}), r"it declares [\d,]+ numbers, and its file holds"),
        (dict(rank_pattern=[1]), "rank_pattern must be an object of whole numbers"),
        (dict(rank_pattern={"q_proj": 0}), "rank_pattern must be an object of whole numbers of at least 1"),
        (dict(rank_pattern={"q_proj": [True]}), "rank_pattern must be an object of whole numbers of at least 1"),
        (dict(peft_type="OSF", rank_pattern={"q_proj": 1.5}), r"rank_pattern must be .* shares in \(0, 1\]"),
        (dict(peft_type="OSF", effective_rank=0), "effective_rank must be a whole number of at least 1"),
        (dict(peft_type="ADALORA", init_r=0), "init_r must be a whole number of at least 1"),
        (
            dict(peft_type="ADALORA", rank_pattern={"a.lora_E": [1, 0]}),
            "rank_pattern must be an object of lists of true",
        ),
        (dict(peft_type="ADALORA", rank_pattern={"(.|.)*.lora_E": [True]}), "whose keys are names of weights"),
        (dict(peft_type="ADALORA", init_r=3, rank_pattern={"a.lora_E": [True]}), "has 1 values .* and init_r is 3"),
        (dict(alpha_pattern={"q_proj": "x"}), "alpha_pattern must be an object of numbers"),
        (dict(lora_alpha="x"), "lora_alpha must be a number"),
        (dict(layer_replication=[[0, 10**9]]), "it repeats layers of its base"),
        (dict(alora_invocation_tokens=[1]), "aLoRA"),
        (dict(megatron_config={"a": 1}, megatron_core="antigravity"), "for Megatron's layers"),
        (dict(init_lora_weights="pissa_niter_99999999"), "too many iterations"),
        (dict(task_type="nope"), "Invalid task type: 'nope'. Must be one of the following task types"),
        (dict(bias="x"), "Requested bias: x"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_settings_that_make_no_adapter_are_refused(changed, fields, why):
    with pytest.raises(InputError, match=f"changed.*{why}") as refused:
        changed(**fields)
    assert "\n" not in str(refused.value)


def test_a_pattern_that_never_ends_is_refused(changed, monkeypatch):
    monkeypatch.setattr("shiftbench.readers.patterns.SECONDS", 0.5)
    with pytest.raises(InputError, match=r"adapter_config.json: its patterns take longer .*\(\\\\w\+\\\\.\?\)\+!"):
        changed(target_modules=r"(\w+\.?)+!")


ENDLESS = "(.|.)*!"  # takes time that doubles with each character of a name


@pytest.mark.parametrize(
    "fields",
    [
        dict(modules_to_save=["lm_head", "(.|.)" * 28 + "!"]),
        dict(modules_to_save=[ENDLESS]),
        dict(exclude_modules=ENDLESS),
        dict(ensure_weight_tying=True, target_modules=["q_proj", ENDLESS]),
        dict(layers_pattern=["layers", ENDLESS], layers_to_transform=[0]),
        dict(layers_pattern=ENDLESS, layers_to_transform=0),
        dict(rank_pattern={ENDLESS: 1}),
        dict(peft_type="DELORA", lambda_pattern={ENDLESS: 1}),
        dict(peft_type="FOURIERFT", n_frequency_pattern={ENDLESS: 1}),
        dict(peft_type="C3A", block_size_pattern={ENDLESS: 1}),
        dict(peft_type="IA3", feedforward_modules=ENDLESS),
    ],
    ids=lambda fields: " ".join(fields),
)
def test_every_setting_of_which_peft_makes_a_pattern_is_tried(changed, monkeypatch, fields):
    monkeypatch.setattr("shiftbench.readers.patterns.SECONDS", 0.5)
    monkeypatch.setattr(adapters, "_first_misfit", lambda *_: pytest.fail("PEFT would try the pattern, without an end"))
    with pytest.raises(InputError, match=r"adapter_config.json: its patterns take longer"):
        changed(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        dict(modules_to_save=[f"none_{number}" for number in range(501)]),
        dict(layers_pattern=[f"none_{number}" for number in range(501)], layers_to_transform=[0]),
        dict(
            modules_to_save=[f"none_{number}" for number in range(51)],
            rank_pattern={f"q_proj_{number}": 2 for number in range(460)},
        ),
    ],
    ids=lambda fields: " ".join(fields),
)
def test_more_patterns_than_python_keeps_compiled_are_refused_before_peft_tries_them(changed, monkeypatch, fields):
    monkeypatch.setattr(adapters, "_first_misfit", lambda *_: pytest.fail("PEFT would compile each for every layer"))
    with pytest.raises(InputError, match=r"modules_to_save and layers_pattern name \d+ modules, and PEFT makes 5\d\d"):
        changed(**fields)


def test_many_layers_with_a_rank_of_their_own_are_no_reason_to_refuse(changed):
    changed(rank_pattern={f"none_{number}": 3 for number in range(600)}, modules_to_save=["none"])


@pytest.mark.parametrize("field", ["target_modules", "exclude_modules"])
def test_an_entry_of_a_list_that_peft_compares_as_text_is_no_pattern(field):
    assert list(adapters._patterns({field: ["q_proj", ENDLESS]})) == []


def test_a_pattern_that_peft_searches_for_is_searched_for_in_the_trial(changed, monkeypatch):
    monkeypatch.setattr("shiftbench.readers.patterns.SECONDS", 0.5)
    monkeypatch.setattr(adapters, "_first_misfit", lambda *_: pytest.fail("PEFT would search without an end"))
    with pytest.raises(InputError, match=r"adapter_config.json: its patterns take longer"):
        changed(peft_type="OSF", rank_pattern={r"ayers\.\d+\.(.|.)*!": 1})


def test_nothing_that_the_configuration_names_is_looked_for(changed, source, saved, tmp_path, monkeypatch):
    """Nor is a module imported: `this` would print, and no module of that name may be loaded."""
    import sys

    monkeypatch.delitem(sys.modules, "this", raising=False)
    changed(
        auto_mapping={"parent_library": "this", "base_model_class": "C"},
        revision=5,
        base_model_name_or_path="no/such",
        megatron_core="this",
    )
    models.load(source(saved(), adapter=str(tmp_path / "changed")))
    assert "this" not in sys.modules


def test_settings_that_this_peft_does_not_know_are_reported(changed, source, saved, tmp_path):
    changed(use_tomorrow=True, use_yesterday=None)
    model = models.load(source(saved(), adapter=str(tmp_path / "changed")))
    assert (
        len(model.notes) == 1
        and model.notes[0].endswith(": use_tomorrow.")
        and "does not know, and leaves out, these settings" in model.notes[0]
    )


def test_pickled_weights_beside_the_safetensors_are_never_opened(source, saved, adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    models.load(source(saved(), adapter=str(tmp_path / "adapter")))


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"\xff" * 8 + b"{}", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_a_damaged_file_of_weights_is_refused(source, saved, adapter, tmp_path, content):
    shutil.copytree(adapter, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"adapter: adapter_model\.safetensors"):
        models.check(source(saved(), adapter=str(tmp_path / "adapter")))


def test_weights_without_a_place_and_weights_of_another_kind_are_refused(source, saved, adapter, tmp_path):
    from safetensors.torch import load_file, save_file

    file = shutil.copytree(adapter, tmp_path / "adapter") / "adapter_model.safetensors"
    held = load_file(file)
    name = sorted(held)[0]
    for change, why in (
        ({"base_model.model.model.layers.7.norm.weight": torch.ones(3)}, "there is no place for its weight '.*7.norm"),
        ({name: held[name].to(torch.int8)}, f"weight '{name}' would be a plain float, not I8: it is quantised"),
    ):
        save_file({**held, **change}, file)
        with pytest.raises(InputError, match=why):
            models.check(source(saved(), adapter=str(tmp_path / "adapter")))


# --- a folder with a config.json beside the adapter


@pytest.fixture
def beside(saved, adapter, tmp_path):
    """A folder with an adapter and the configuration of its base, as axolotl writes it."""
    folder = shutil.copytree(adapter, tmp_path / "tuned")
    shutil.copy(saved() / "config.json", folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_an_adapter_with_a_configuration_beside_it_is_an_adapter(local_pair, saved, beside):
    (beside / "training_args.bin").write_bytes(b"")
    (beside / "optimizer.pt").write_bytes(b"")
    pair = local_pair(saved(), beside)
    assert (pair.tuned.path, pair.tuned.adapter) == (str(saved()), str(beside))


def test_an_adapter_beside_whole_weights_is_refused_and_both_ways_out_are_told(local_pair, saved, beside):
    shutil.copy(saved() / "model.safetensors", beside)
    pair = local_pair(saved(), beside)
    assert pair.tuned.adapter is None
    with pytest.raises(InputError, match=f"move the adapter's files away .*pair.tuned_model.adapter={beside}"):
        models.check(pair.tuned)


@pytest.fixture
def local_pair():
    from hydra.utils import instantiate

    def make(base, tuned):
        return instantiate(
            composition.compose("config", ["pair=local", f"pair.base={base}", f"pair.tuned={tuned}"]).pair
        )

    return make
