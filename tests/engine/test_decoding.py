"""Decoding together gives each prompt what it gets alone, which is the model's own argmax step by step."""

import pytest
import torch

from shiftbench.engine import core_calls, decoding
from shiftbench.models.block import Attention, Linear
from shiftbench.models.views import views_of
from tests.tiny import ARCHITECTURES, VOCABULARY, tiny_module

PROMPTS = [1, 20, 3, 7, 33, 2, 5, 9, 16, 4]  # tokens


def drawn(counts=PROMPTS):
    draws = torch.Generator().manual_seed(0)
    return [torch.randint(0, VOCABULARY, (count,), generator=draws).tolist() for count in counts]


def decoded(module, prompts, most, ends=()):
    found = dict(decoding.greedy(views_of(module).transformer(), module.get_input_embeddings(), prompts, most, ends))
    assert sorted(found) == list(range(len(prompts)))
    return [found[i] for i in range(len(prompts))]


def by_hand(module, prompt, most, ends=()):
    generated = []
    for _ in range(most):
        with torch.no_grad():
            token = int(module(torch.tensor([[*prompt, *generated]])).logits[0, -1].argmax())
        if token in ends:
            break
        generated.append(token)
    return generated


CASES = [(name, {}) for name in ARCHITECTURES] + [
    ("mistral", {"sliding_window": 5}),
    ("gemma2", {"sliding_window": 5}),
    ("gemma2", {"attn_logit_softcapping": 0.5, "final_logit_softcapping": 0.7}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
]


@pytest.mark.parametrize(("architecture", "change"), CASES, ids=str)
def test_it_is_the_argmax_step_by_step(architecture, change, monkeypatch):
    module, prompts = tiny_module(architecture, **change).double(), drawn()
    wanted = [by_hand(module, prompt, 12) for prompt in prompts]
    for places, read in ((64, 512), (3, 512), (64, 15)):
        monkeypatch.setattr(decoding, "PLACES", places)
        monkeypatch.setattr(decoding, "READ", read)
        assert decoded(module, prompts, 12) == wanted, (places, read)


def logits_seen(monkeypatch, module, prompts):
    """The logits that each prompt's tokens were chosen from, in float32 and to the last bit."""
    seen, active = {}, []
    extend, logits = decoding._extend, decoding.logits

    def watch_prompts(model, caches, embed, rows):
        active[:] = rows
        extend(model, caches, embed, rows)

    def recording(model, x_ND, *how):
        found_NV = logits(model, x_ND, *how)
        for row, logit_V in zip(active, found_NV, strict=False):
            seen.setdefault(tuple(prompts[row.item]), []).append(logit_V.clone())
        return found_NV

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_extend", watch_prompts)
        patch.setattr(decoding, "logits", recording)
        decoded(module, prompts, 6)
    return {prompt: torch.stack(rows) for prompt, rows in seen.items()}


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_a_response_does_not_depend_on_what_it_is_decoded_beside(architecture, monkeypatch):
    module, prompts = tiny_module(architecture, num_hidden_layers=3, hidden_size=64), drawn()
    together = logits_seen(monkeypatch, module, prompts)
    assert {len(rows) for rows in together.values()} == {6}
    for some in ([prompts[1]], prompts[:4][::-1], prompts[3:]):
        for prompt, alone in logits_seen(monkeypatch, module, some).items():
            assert torch.equal(alone, together[prompt])


def test_a_response_that_ends_frees_its_slot(monkeypatch):
    monkeypatch.setattr(decoding, "PLACES", 2)
    module, prompts = tiny_module("llama").double(), drawn()
    whole = [by_hand(module, prompt, 12) for prompt in prompts]
    ends = {whole[0][0], whole[1][3], whole[2][-1]}
    found = decoded(module, prompts, 12, ends)
    assert found == [by_hand(module, prompt, 12, ends) for prompt in prompts]
    assert found[0] == [] and len({len(tokens) for tokens in found}) > 2
    assert decoded(module, prompts, 1) == [tokens[:1] for tokens in whole]
    assert decoded(module, [], 5) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("window", "cap"), [(None, None), (4, None), (None, 0.6), (3, 0.6)])
def test_the_cores_attention_is_torchs(dtype, window, cap, monkeypatch):
    draws = torch.Generator().manual_seed(1)
    heads, key_heads, room, width = 6, 2, 50, 19
    query_NHE = torch.randn(3, heads, width, generator=draws, dtype=dtype)
    key, value = (torch.randn(key_heads, room, width, generator=draws, dtype=dtype) for _ in range(2))
    begin_N, last_N = torch.tensor([[10, 0, 24], [11, 9, 50]])
    first_N = begin_N if window is None else torch.maximum(begin_N, last_N - window)
    at_2N = torch.stack([first_N, last_N])
    (block,) = views_of(tiny_module("gemma2", num_hidden_layers=1)).transformer().blocks
    spec = block.attention.__class__(**{**vars(block.attention), "key_heads": key_heads, "heads": heads, "cap": cap})
    found = decoding.attend(spec, query_NHE, key, value, at_2N, 30)
    monkeypatch.setattr(core_calls, "supports_attention", lambda rows: False)
    wanted = decoding.attend(spec, query_NHE, key, value, at_2N, 30)  # one row after the other: the caches hold 50
    assert torch.allclose(found, wanted, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13)


def test_slots_are_limited_by_the_memory_of_the_weights():
    transformer = views_of(tiny_module("llama")).transformer()
    slots = [len(decoding._slot_begins(transformer, [room] * 50)) - 1 for room in (1, 20, 100_000)]
    assert slots[0] == 50 and 1 < slots[1] < 50 and slots[2] == 1
    assert decoding._slot_begins(transformer, [9, 7, 4]) == [0, 9, 16, 20] and decoding._slot_begins(
        transformer, []
    ) == [0]


def test_a_short_prompt_gets_a_short_slot():
    """One long prompt among short ones does not make their slots long: all of them are decoded together."""
    transformer = views_of(tiny_module("llama")).transformer()
    fit = len(decoding._slot_begins(transformer, [5] * 64)) - 1
    assert 8 < fit < 64
    long, short = 5 * (fit - 7), [5] * 7
    assert (
        len(decoding._slot_begins(transformer, [long] * 8))
        < len(decoding._slot_begins(transformer, [long, *short]))
        == 9
    )


@pytest.mark.parametrize(("window", "cap"), [(None, None), (4, None), (3, 0.6)])
def test_reading_a_prompt_gives_the_same_as_row_by_row(window, cap, monkeypatch):
    monkeypatch.setattr(core_calls, "supports", lambda rows: False)
    draws = torch.Generator().manual_seed(1)
    heads, key_heads, room, width, sizes, begins = 6, 2, 50, 19, [7, 1, 12], [20, 3, 36]
    query_NHE = torch.randn(sum(sizes), heads, width, generator=draws, dtype=torch.float64)
    key, value = (torch.randn(key_heads, room, width, generator=draws, dtype=torch.float64) for _ in range(2))
    last_N = torch.cat([begin + 1 + torch.arange(size) for begin, size in zip(begins, sizes, strict=True)])
    begin_N = torch.tensor(begins).repeat_interleave(torch.tensor(sizes))
    first_N = begin_N if window is None else torch.maximum(begin_N, last_N - window)
    weight = Linear(torch.empty(1, heads * width))
    key_weight = Linear(torch.empty(1, key_heads * width))
    spec = Attention(weight, key_weight, key_weight, weight, heads, key_heads, 0.3, cap=cap, window=window)
    reading = [slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=True)]
    at_2N = torch.stack([first_N, last_N])
    wanted = decoding.attend(spec, query_NHE, key, value, at_2N, max(sizes))
    found = decoding.attend(spec, query_NHE, key, value, at_2N, max(sizes), reading)
    assert torch.allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_without_the_core_a_prompt_is_read_at_once(monkeypatch):
    """All rows of a prompt in one call of attention, however much of the caches they take."""
    monkeypatch.setattr(core_calls, "supports", lambda rows: False)
    calls = []
    attend = decoding._attend_reading
    monkeypatch.setattr(decoding, "_attend_reading", lambda *given: calls.append(len(given[1])) or attend(*given))
    module, prompts = tiny_module("llama", num_hidden_layers=2).double(), drawn([40])
    assert decoded(module, prompts, 3) == [by_hand(module, prompts[0], 3)]
    assert calls == [40, 40]
