"""Forward and reverse mode against one backward pass per token, in float64, for every architecture of the engine."""

from functools import lru_cache

import pytest
import torch

from shiftbench.engine import autograd
from shiftbench.engine.importance import Tokens, importance
from shiftbench.engine.schedule import split_items
from shiftbench.models.views import NotPlainLayer, views_of
from tests import reference
from tests.models.conftest import save_adapter
from tests.tiny import ARCHITECTURES, VOCABULARY, tiny_module

LENGTHS = [(5, 9), (9, 5), (7, 7), (1, 1), (4, 1), (1, 4)]  # prompt, response: forward, reverse, ends
EVERYTHING = 2**30
PREFIX = 2


def drawn(count, seed=0):
    return torch.randint(0, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def compared(module, prompts, responses, memory=EVERYTHING, prefix=PREFIX):
    """(largest error relative to each column's largest, probabilities) of the engine against the formula."""
    ids = drawn(prefix + prompts + responses)
    cut = slice(prefix, prefix + prompts)
    wanted_PR = by_formula(module, prompts, responses, prefix)
    embedding_TD = module.get_input_embeddings()(torch.tensor(ids))
    tokens = Tokens(embedding_TD, cut, torch.tensor(ids[cut.stop :]))
    found_PR, probability_R = importance(views_of(module).transformer(), tokens, memory)
    # Where windows keep a response token from seeing the prompt at all, the column is 0 in both.
    largest_R = wanted_PR.abs().amax(0).clamp_min(1e-12 * wanted_PR.abs().max())
    return float(((found_PR - wanted_PR).abs().amax(0) / largest_R).max()), probability_R


@lru_cache(maxsize=1)
def by_formula(module, prompts, responses, prefix):
    """importance_PR of drawn tokens. Tests that try one module in many ways compute it once."""
    ids = drawn(prefix + prompts + responses)
    return reference.importance(module, ids[:prefix], ids[prefix : prefix + prompts], ids[prefix + prompts :])


@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["all cached", "a layer at a time"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_gradient_times_the_embedding(architecture, lengths, memory):
    error, _ = compared(tiny_module(architecture, num_hidden_layers=3).double(), *lengths, memory)
    assert error < 1e-11


@pytest.mark.parametrize("lengths", [(3, 30), (30, 3), (25, 24)], ids=str)
def test_many_chunks_give_what_one_gives(lengths, monkeypatch):
    module = tiny_module("llama").double()
    monkeypatch.setattr("shiftbench.engine.schedule.ROWS", 16)
    monkeypatch.setattr("shiftbench.engine.schedule.MERGED_ROWS", 16)
    assert len(split_items([20] * 20, 16, 16)) > 5
    assert compared(module, *lengths)[0] < 1e-11


@pytest.mark.parametrize("lengths", [(12, 14), (14, 12)], ids=str)
@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("mistral", {"sliding_window": 5}),
        ("gemma2", {"sliding_window": 5}),
        ("qwen2", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1}),
        ("gemma2", {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 0.7}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"num_key_value_heads": 4}),
        ("llama", {"num_hidden_layers": 1}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"hidden_act": "linear"}),  # autograd returns its input: slope and up-projection share memory
        ("llama", {"hidden_act": "relu"}),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "activation_function": "relu"}),
    ],
    ids=str,
)
def test_options_of_a_model_configuration(architecture, change, lengths):
    assert compared(tiny_module(architecture, **change).double(), *lengths)[0] < 1e-10


def test_float32_errs_by_rounding_only():
    for lengths in ((32, 60), (60, 32)):
        wide = tiny_module("llama").double()
        ids = drawn(sum(lengths))
        cut = slice(0, lengths[0])
        wanted_PR = reference.importance(wide, (), ids[cut], ids[cut.stop :])
        module = tiny_module("llama")
        tokens = Tokens(module.get_input_embeddings()(torch.tensor(ids)), cut, torch.tensor(ids[cut.stop :]))
        found_PR, _ = importance(views_of(module).transformer(), tokens, EVERYTHING)
        assert float(((found_PR - wanted_PR).abs().amax(0) / wanted_PR.abs().amax(0)).max()) < 1e-4


def test_the_number_of_threads_changes_no_bit():
    module = tiny_module("qwen3")
    ids = drawn(70)
    tokens = Tokens(module.get_input_embeddings()(torch.tensor(ids)), slice(0, 30), torch.tensor(ids[30:]))
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        try:
            found.append(importance(views_of(module).transformer(), tokens, EVERYTHING)[0])
        finally:
            torch.set_num_threads(before)
    assert torch.get_num_threads() == before
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_the_probabilities_are_the_models_own():
    module = tiny_module("gemma2").double()
    ids = drawn(PREFIX + 16)
    with torch.no_grad(), reference.in_one_dtype(module):
        wanted_R = module(torch.tensor([ids])).logits[0].softmax(-1)[range(10, 17), ids[11:]]
    assert torch.allclose(compared(module, 9, 7)[1], wanted_R, rtol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_autograd_path_gives_the_same(architecture):
    module = tiny_module(architecture).double()
    ids = drawn(PREFIX + 14)
    with reference.in_one_dtype(module):
        graph = autograd.forward(module, tuple(ids[:PREFIX]), tuple(ids[PREFIX:11]), tuple(ids[11:]))
        columns = [(grad_RPD * graph.embedding_PD).sum(-1) for _, grad_RPD in autograd.gradients(graph, 2)]
    wanted_PR = reference.importance(module, ids[:PREFIX], ids[PREFIX:11], ids[11:])
    assert float((torch.cat(columns).T - wanted_PR).abs().max() / wanted_PR.abs().max()) < 1e-11


def test_a_kept_adapter_is_not_plain(tmp_path):
    from peft import PeftModel

    module = tiny_module("llama")
    save_adapter(module, tmp_path / "adapter", "base")
    kept = PeftModel.from_pretrained(tiny_module("llama"), tmp_path / "adapter").get_base_model()
    with pytest.raises(NotPlainLayer):
        views_of(kept).transformer()
