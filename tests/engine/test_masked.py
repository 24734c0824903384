"""Masked passes over an unmasked KV cache equal the module's own passes, in float64, for every architecture."""

import pytest
import torch

from shiftbench.engine import autograd, masked
from shiftbench.engine.importance import Tokens, importance, total
from shiftbench.models.views import views_of
from tests import reference
from tests.engine.test_importance import EVERYTHING, PREFIX, drawn
from tests.tiny import ARCHITECTURES, tiny_module

PROMPT, RESPONSE = 37, 6


def tiny_case(module, prompt=PROMPT, response=RESPONSE):
    ids = drawn(PREFIX + prompt + response)
    cut = slice(PREFIX, PREFIX + prompt)
    embedding_TD = module.get_input_embeddings()(torch.tensor(ids)).detach()
    return ids, cut, Tokens(embedding_TD, cut, torch.tensor(ids[cut.stop :]))


def masks(prompt=PROMPT):
    """Masks of no token, of each token alone, of all tokens, and of random ones."""
    one_PP = torch.eye(prompt, dtype=torch.bool)
    some = torch.rand(6, prompt, generator=torch.Generator().manual_seed(1)) < 0.3
    return torch.cat([torch.zeros(1, prompt, dtype=torch.bool), one_PP, ~one_PP[:1] | True, some])


def zeros(tokens):
    return torch.zeros_like(tokens.embedding_PD)


def wanted(module, ids, cut, masked_BP):
    given = (module, ids[: cut.start], ids[cut], ids[cut.stop :])
    return torch.stack([reference.masked_log_probability(*given, mask_P) for mask_P in masked_BP])


@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["many masks", "a mask at a time"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_modules_own_pass(architecture, memory):
    module = tiny_module(architecture, num_hidden_layers=3).double()
    ids, cut, tokens = tiny_case(module)
    found_BR = masked.log_probabilities(views_of(module).transformer(), tokens, masks(), memory, zeros(tokens))
    assert torch.allclose(found_BR, wanted(module, ids, cut, masks()), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("mistral", {"sliding_window": 5}),
        ("gemma2", {"sliding_window": 5, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 0.7}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
        ("gpt2", {"n_positions": PREFIX + PROMPT + RESPONSE}),
    ],
    ids=str,
)
def test_options_of_a_model_configuration(architecture, change):
    module = tiny_module(architecture, **change).double()
    ids, cut, tokens = tiny_case(module)
    found_BR = masked.log_probabilities(views_of(module).transformer(), tokens, masks(), EVERYTHING, zeros(tokens))
    assert torch.allclose(found_BR, wanted(module, ids, cut, masks()), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_modules_own_path_gives_the_same(architecture):
    module = tiny_module(architecture).double()
    ids, cut, tokens = tiny_case(module, 9, 4)
    with reference.in_one_dtype(module):
        given = (module, tokens.embedding_TD, cut, tokens.response_R, masks(9), EVERYTHING)
        found_BR = autograd.log_probabilities(*given, zeros(tokens))
    assert torch.allclose(found_BR, wanted(module, ids, cut, masks(9)), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("deletes", [False, True], ids=["replaced", "deleted"])
@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["many masks", "a mask at a time"])
@pytest.mark.parametrize(
    ("architecture", "change"),
    [*((name, {}) for name in ARCHITECTURES), ("mistral", {"sliding_window": 5}), ("gemma2", {"sliding_window": 4})],
    ids=str,
)
def test_tokens_are_replaced_or_deleted(architecture, change, memory, deletes):
    """Both ways give what one pass of the module gives on each masked text, on its own."""
    module = tiny_module(architecture, num_hidden_layers=3, **change).double()
    ids, cut, tokens = tiny_case(module, 11, 5)
    masked_BP = masks(11)
    other_PD = None if deletes else torch.randn_like(tokens.embedding_PD)
    wanted_BR = torch.stack(
        [reference.masked_log_probability(module, ids[:PREFIX], ids[cut], ids[cut.stop :], m, replacement_PD=other_PD)
         if not deletes else reference.deleted_log_probability(module, ids[:PREFIX], ids[cut], ids[cut.stop :], m)
         for m in masked_BP]
    )  # fmt: skip
    found_BR = masked.log_probabilities(views_of(module).transformer(), tokens, masked_BP, memory, other_PD)
    assert torch.allclose(found_BR, wanted_BR, rtol=1e-10, atol=1e-11)
    given = (module, tokens.embedding_TD, cut, tokens.response_R, masked_BP, memory, other_PD)
    with reference.in_one_dtype(module):
        assert torch.allclose(autograd.log_probabilities(*given), wanted_BR, rtol=1e-10, atol=1e-11)


def test_a_token_is_left_in_front_of_the_response():
    module = tiny_module("llama").double()
    _, _, tokens = tiny_case(module, 4, 3)
    alone = Tokens(tokens.embedding_TD[PREFIX:], slice(0, 4), tokens.response_R)
    all_1P = torch.ones(1, 4, dtype=torch.bool)
    for given in (
        lambda: masked.log_probabilities(views_of(module).transformer(), alone, all_1P, EVERYTHING, None),
        lambda: autograd.log_probabilities(
            module, alone.embedding_TD, alone.prompt, alone.response_R, all_1P, EVERYTHING, None
        ),
    ):
        with pytest.raises(ValueError, match="every token in front of the response"):
            given()


@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["all cached", "a layer at a time"])
@pytest.mark.parametrize("lengths", [(5, 9), (9, 5), (1, 1), (4, 1), (1, 4)], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_total_is_the_sum_over_the_response(architecture, lengths, memory):
    module = tiny_module(architecture, num_hidden_layers=3).double()
    _, _, tokens = tiny_case(module, *lengths)
    transformer = views_of(module).transformer()
    wanted_PR, wanted_R = importance(transformer, tokens, EVERYTHING)
    found_P, found_R = total(transformer, tokens, memory)
    assert torch.allclose(found_P, wanted_PR.sum(1), rtol=1e-9, atol=1e-12 * float(wanted_PR.abs().max()))
    assert torch.allclose(found_R, wanted_R, rtol=1e-12)


def test_the_total_by_autograd_is_the_same():
    module = tiny_module("llama").double()
    ids, cut, tokens = tiny_case(module, 9, 5)
    half_PD = 0.5 * tokens.embedding_PD
    given = (module, tuple(ids[:PREFIX]), tuple(ids[cut]), tuple(ids[cut.stop :]), half_PD)
    with reference.in_one_dtype(module):
        graph = autograd.forward(*given)
        found_PD = autograd.total_gradient(graph)
        wanted_PD = torch.cat([grad_RPD for _, grad_RPD in autograd.gradients(autograd.forward(*given), 2)]).sum(0)
    assert torch.allclose(found_PD, wanted_PD, rtol=1e-9, atol=1e-12)
    assert torch.equal(graph.embedding_PD, half_PD)
