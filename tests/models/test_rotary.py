"""Where angles depend on the text's length, they are those of the present text, whatever was computed before."""

import pytest
import torch

from shiftbench.explain.importance import importance, log_probabilities
from shiftbench.explain.response import GreedyResponse
from shiftbench.models import wrap
from shiftbench.models.rotary import follows_length, reset_angles, same_angles
from shiftbench.prompts import Prompt, encode
from tests.tiny import tiny_module, tiny_tokenizer

SHORT, LONG = (
    "Write a poem",
    "Write a short poem about the sea, the sky and the stars. Explain why the answer is a number.",
)
ANSWER = " The sky and the stars"
DYNAMIC = dict(max_position_embeddings=16, rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4})
LONGROPE = dict(
    max_position_embeddings=64,
    rope_parameters={
        "rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16,
        "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
    },
)  # fmt: skip
KINDS = pytest.mark.parametrize("change", [DYNAMIC, LONGROPE], ids=["dynamic", "longrope"])


def results(model, text):
    prompt = encode(Prompt("p", text, ()), model.tokenizer)
    ids = prompt.response_ids(model.tokenizer, ANSWER)
    first_1P = torch.zeros(1, len(prompt.prompt_ids), dtype=torch.bool)
    first_1P[0, 0] = True
    (work,) = GreedyResponse(6).work(model, [prompt])
    return [
        *importance(model, prompt, ids, 4),
        log_probabilities(model, prompt, ids, first_1P, 4),
        work.compute().arrays["response_R"],
    ]


@KINDS
@pytest.mark.parametrize("text", [SHORT, SHORT + SHORT], ids=["within", "beyond"])
def test_no_result_depends_on_a_longer_text_before(change, text):
    with wrap(tiny_module("llama", **change), tiny_tokenizer()) as model:
        before = results(model, text)
        results(model, LONG)
        assert all(torch.equal(a, b) for a, b in zip(before, results(model, text), strict=True))


@KINDS
def test_no_result_depends_on_what_the_caller_computed_before(change):
    fresh, used = (tiny_module("llama", **change) for _ in range(2))
    with torch.no_grad():
        used(input_ids=torch.arange(1, 60)[None])
    found = []
    for module in (fresh, used):
        with wrap(module, tiny_tokenizer()) as model:
            found.append(results(model, SHORT + SHORT))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@KINDS
@pytest.mark.parametrize("text", [SHORT, SHORT * 2, SHORT * 3, LONG])
def test_importance_is_that_of_the_modules_own_pass_over_the_whole_text(change, text):
    """The engine pads the text, and padding must not change the angles."""
    module = tiny_module("llama", **change).double()
    with wrap(module, tiny_tokenizer()) as model:
        prompt = encode(Prompt("p", text, ()), model.tokenizer)
        ids = prompt.response_ids(model.tokenizer, ANSWER)
        found_PR, _ = importance(model, prompt, ids, 4)
        reset_angles(module)
        embedding_TD = module.get_input_embeddings()(torch.tensor([prompt.prompt_ids + ids])).requires_grad_(True)
        start = len(prompt.prompt_ids)
        p_RV = module(inputs_embeds=embedding_TD, use_cache=False).logits[0, start - 1 : -1].softmax(-1)
        for column, token in enumerate(ids):
            (grad_TD,) = torch.autograd.grad(p_RV[column, token], embedding_TD, retain_graph=True)
            wanted_P = (grad_TD * embedding_TD).sum(-1)[0, :start]
            torch.testing.assert_close(found_PR[:, column], wanted_P, rtol=1e-4, atol=1e-8)


def test_angles_of_other_types_are_left_alone():
    module = tiny_module("llama")
    before = module.model.rotary_emb.inv_freq
    reset_angles(module)
    assert module.model.rotary_emb.inv_freq is before
    assert follows_length(module.config) is None and same_angles(module.config, 10**6, 10**6)


def test_angles_of_one_kind_of_layers_among_others_are_seen():
    from transformers import AutoConfig, AutoModelForCausalLM

    plain = {"rope_type": "default", "rope_theta": 1e4}
    config = AutoConfig.for_model(
        "gemma3_text", vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=64, head_dim=16, sliding_window=8, max_position_embeddings=16,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={
            "sliding_attention": plain,
            "full_attention": {**plain, "rope_type": "dynamic", "factor": 4.0},
        },
    )  # fmt: skip
    module = AutoModelForCausalLM.from_config(config).eval()
    assert follows_length(config) == "dynamic"
    before = module.model.rotary_emb.full_attention_inv_freq.clone()
    with torch.no_grad():
        module(input_ids=torch.arange(1, 40)[None])
    assert not torch.equal(module.model.rotary_emb.full_attention_inv_freq, before)
    reset_angles(module)
    assert torch.equal(module.model.rotary_emb.full_attention_inv_freq, before)


@KINDS
def test_wrap_puts_the_callers_angles_back(change):
    module = tiny_module("llama", **change)
    with torch.no_grad():
        module(input_ids=torch.arange(1, 60)[None])
    rotary = module.model.rotary_emb
    before = rotary.inv_freq.clone(), rotary.max_seq_len_cached
    with wrap(module, tiny_tokenizer()) as model:
        results(model, SHORT)
    assert torch.equal(rotary.inv_freq, before[0]) and rotary.max_seq_len_cached == before[1]
