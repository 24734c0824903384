"""Every weight view against the forward pass of its module."""

import copy

import peft
import pytest
import torch

from shiftbench.errors import InputError
from shiftbench.models.views import applied_weight, views_of
from tests.tiny import ARCHITECTURES, tiny_module

IDS = torch.arange(1, 40).reshape(3, 13)
LAYER = 1


def seen(module, *names):
    """(input, output) of each named submodule in one forward pass. The hooks are removed afterwards."""
    found = {}

    def keep(name):
        return lambda _, given, output: found.__setitem__(name, (given[0].detach() if given else None, output.detach()))

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    with torch.no_grad():
        module(input_ids=IDS)
    for handle in handles:
        handle.remove()
    return [found[name] for name in names]


def by_head(activation, heads, groups=1):
    """[..., heads x E] -> [..., heads, E], each repeated for its group of query heads."""
    return activation.unflatten(-1, (heads, -1)).repeat_interleave(groups, dim=-2)


def activations(normalised, weight_HDE):
    return torch.einsum("btd,hde->bthe", normalised, weight_HDE)


def normalised_input(module, norm):
    """The input of a projection without the norm's gain, from the norm's input where there is a norm before it."""
    place = f"model.layers.{LAYER}"
    if norm is None:
        return seen(module, f"{place}.self_attn.q_proj")[0][0]
    x = seen(module, f"{place}.input_layernorm")[0][0]
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + module.config.rms_norm_eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "gpt2"])
def test_llama_family(architecture, dtype):
    module = tiny_module(architecture).to(dtype)
    views, config = views_of(module), module.config
    norm = None if architecture == "olmo2" else "input_layernorm"
    given = normalised_input(module, norm)
    attention, mlp = f"model.layers.{LAYER}.self_attn", f"model.layers.{LAYER}.mlp"
    names = [f"{attention}.q_proj", f"{attention}.k_proj", f"{mlp}.down_proj"]
    (_, query), (_, key), (neurons, down) = seen(module, *names)
    for output, name in ((query, "q_proj"), (key, "k_proj")):
        bias = module.get_submodule(f"{attention}.{name}").bias
        output -= 0 if bias is None else bias.detach()
    groups = config.num_attention_heads // config.num_key_value_heads
    assert groups == 2  # grouped-query attention
    near = dict(rtol=1e-5, atol=1e-5)  # in float64 too: the modules normalise in float32
    torch.testing.assert_close(activations(given, views.query_HDE(LAYER)), by_head(query, 4), **near)
    torch.testing.assert_close(activations(given, views.key_HDE(LAYER)), by_head(key, 2, groups), **near)
    torch.testing.assert_close(neurons @ views.down_FD(LAYER), down, **near)
    assert views.query_HDE(LAYER).dtype == dtype and not views.query_HDE(LAYER).requires_grad


def test_gpt2():
    module = tiny_module("gpt2")
    views, place = views_of(module), f"transformer.h.{LAYER}"
    (x, _), (_, fused), (neurons, down) = seen(module, f"{place}.ln_1", f"{place}.attn.c_attn", f"{place}.mlp.c_proj")
    given = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=module.config.layer_norm_epsilon)
    block = module.transformer.h[LAYER]
    fused = fused - block.ln_1.bias.detach() @ block.attn.c_attn.weight.detach() - block.attn.c_attn.bias.detach()
    query, key, _ = fused.split(32, dim=-1)
    torch.testing.assert_close(activations(given, views.query_HDE(LAYER)), by_head(query, 4), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(activations(given, views.key_HDE(LAYER)), by_head(key, 4), rtol=1e-5, atol=1e-5)
    down = down - block.mlp.c_proj.bias.detach()
    torch.testing.assert_close(neurons @ views.down_FD(LAYER), down, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings(architecture, tied):
    module = tiny_module(architecture, tie_word_embeddings=tied)
    views = views_of(module)
    ((_, embedded),) = seen(module, "transformer.wte" if architecture == "gpt2" else "model.embed_tokens")
    # Gemma's module multiplies embeddings by a factor; the view has them as stored.
    scale = getattr(module.get_input_embeddings(), "embed_scale", 1.0)
    torch.testing.assert_close(views.embedding_in_VD()[IDS] * scale, embedded)
    ((top, logits),) = seen(module, "lm_head")
    torch.testing.assert_close(top @ views.embedding_out_VD().T, logits)
    assert torch.equal(views.embedding_in_VD(), views.embedding_out_VD()) == tied


def test_half_precision_weights_are_read_in_float32():
    module = tiny_module("llama").to(torch.bfloat16)
    assert views_of(module).down_FD(0).dtype == torch.float32
    assert torch.equal(views_of(module).down_FD(0).T.bfloat16(), module.model.layers[0].mlp.down_proj.weight)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("dora", [False, True])
def test_a_kept_adapter_is_in_the_views(architecture, dora):
    lora = peft.LoraConfig(r=2, target_modules="all-linear", use_dora=dora, init_lora_weights=False)
    adapted = peft.get_peft_model(tiny_module(architecture), lora).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1.5)
    kept = views_of(adapted.get_base_model())
    merged = views_of(copy.deepcopy(adapted).merge_and_unload())
    bare = views_of(tiny_module(architecture))
    before = {name: tensor.clone() for name, tensor in kept.module.state_dict().items()}
    for view in ("query_HDE", "key_HDE", "down_FD"):
        torch.testing.assert_close(getattr(kept, view)(0), getattr(merged, view)(0))
        assert not torch.allclose(getattr(kept, view)(0), getattr(bare, view)(0), atol=1e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in kept.module.state_dict().items())


def test_a_module_that_an_adapter_replaces_is_the_replacement():
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(tiny_module("llama"), lora)
    trained = adapted.get_base_model().lm_head.modules_to_save["default"].weight
    with torch.no_grad():
        trained.add_(1.0)
    assert torch.equal(applied_weight(adapted.get_base_model().lm_head), trained)
    assert torch.equal(views_of(adapted.get_base_model()).embedding_out_VD(), trained)


def test_a_weight_that_is_not_there_is_named():
    module = tiny_module("llama")
    del module.model.layers[1].self_attn.q_proj
    with pytest.raises(InputError, match=r"LlamaForCausalLM: no weight 'model.layers.1.self_attn.q_proj.weight'"):
        views_of(module).query_HDE(1)


def test_a_weight_of_another_shape_is_named():
    module = tiny_module("llama")
    module.model.layers[0].mlp.down_proj = torch.nn.Linear(7, 32)
    with pytest.raises(InputError, match=r"'model.layers.0.mlp.down_proj.weight' should be \(32, 64\), is \(32, 7\)"):
        views_of(module).down_FD(0)


def test_an_unknown_architecture_is_told_how_to_be_added():
    module = tiny_module("llama")
    module.config.model_type = "bloom"
    with pytest.raises(InputError, match=r"'bloom'.*gemma2, gpt2, llama.*shiftbench/models/bloom.py.*conf/pair/"):
        views_of(module)
