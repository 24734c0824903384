"""The engine takes the memory that it plans, and how its work is divided changes results by rounding only."""

import weakref
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from shiftbench.engine import core_calls, importance
from shiftbench.engine.forward import forward
from shiftbench.engine.product import Precision
from shiftbench.engine.row_layout import RowLayout
from shiftbench.engine.schedule import (
    GPU_ROWS,
    MERGED_ROWS,
    ROWS,
    Chunk,
    cache_bytes,
    count_opposite,
    cut_bytes,
    plan,
    row_bytes,
    split_items,
    split_layers,
)
from shiftbench.engine.segment_derivatives import jvp, vjp
from shiftbench.models.block import Attention, Block, FeedForward, Linear
from shiftbench.models.views import views_of
from tests.engine.test_importance import EVERYTHING, compared, drawn
from tests.tiny import ARCHITECTURES, tiny_module

MIB = 2**20
TOKENS = 96


class Allocated(TorchDispatchMode):
    """The most bytes that tensors created in the block took at once."""

    def __init__(self):
        super().__init__()
        self.most = self.now = 0
        self._tensors = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, torch.Tensor):
                self._add(tensor, func)
        return found

    def _add(self, tensor, func):
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        is_new = not any(r.alias_info for r in func._schema.returns)
        if is_new and not self._tensors[key]:
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
        if is_new or self._tensors[key]:
            self._tensors[key] += 1
            weakref.finalize(tensor, self._drop, key, storage.nbytes())

    def _drop(self, key, size):
        self._tensors[key] -= 1
        if not self._tensors[key]:
            self.now -= size


def shaped(architecture):
    """A module with the proportions of a real one."""
    if architecture == "gpt2":
        return tiny_module(architecture, n_embd=96, n_head=6)
    heads = {} if architecture not in ("qwen3", "gemma2") else {"head_dim": 16}
    return tiny_module(
        architecture, hidden_size=96, num_attention_heads=6, num_key_value_heads=2, intermediate_size=256, **heads
    )


@pytest.mark.parametrize("in_core", [True, False], ids=["core", "torch"])
@pytest.mark.parametrize("step", [jvp, vjp])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_row_takes_what_the_plan_says(architecture, step, in_core, monkeypatch):
    if not in_core:
        monkeypatch.setattr(core_calls, "supports", lambda rows: False)
    module = shaped(architecture)
    model = views_of(module).transformer()
    with torch.no_grad():
        x_TD = module.get_input_embeddings()(torch.tensor(drawn(TOKENS)))
        if model.position_TD is not None:
            x_TD = x_TD + model.position_TD[:TOKENS]
        (cache,), _ = forward(model, x_TD, model.blocks[:1])
        origins = tuple(range(8) if step is jvp else range(TOKENS - 8, TOKENS))
        ends = (origins, (TOKENS,) * 8) if step is jvp else ((0,) * 8, tuple(n + 1 for n in origins))
        at = RowLayout(*ends)
        rows_ND = torch.randn(at.rows, x_TD.shape[1])
        where = (
            {"cut": TOKENS, "last": TOKENS, "last_layer": None}
            if step is jvp
            else {"prompt": slice(0, TOKENS), "cut": 0}
        )

        def through(rows_ND):
            step(Chunk(origins, at, rows_ND), [(1, cache)], Precision.FLOAT32, opposite=None, **where)

        through(rows_ND.clone())  # layouts are computed once
        with Allocated() as allocated:
            through(rows_ND)
    planned = row_bytes(model.blocks[0], TOKENS, in_core) * at.rows
    assert 0.7 * planned < allocated.most < 1.3 * planned


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_forward_cache_takes_what_the_plan_says(architecture):
    module = shaped(architecture)
    model = views_of(module).transformer()
    x_TD = module.get_input_embeddings()(torch.tensor(drawn(TOKENS))).detach()
    with torch.no_grad(), Allocated() as allocated:
        caches, _ = forward(model, x_TD, model.blocks)
        assert 0.75 < cache_bytes(model.blocks[0], TOKENS) * len(caches) / allocated.now < 1.25


def blocks(width, heads, key_heads, feed, layers, device):
    """Layers of a real model's shape, with uninitialised weights."""

    def linear(rows, columns):
        return Linear(torch.empty(columns, rows, device=device).T)

    each = width // heads
    query, key, out = linear(width, width), linear(width, key_heads * each), linear(width, width)
    attention = Attention(query, key, key, out, heads, key_heads, each**-0.5)
    feed_forward = FeedForward(linear(width, feed), linear(feed, width), torch.nn.functional.silu, linear(width, feed))
    return [Block(attention, feed_forward, None, None, None, None)] * layers


def lengths(prompt, response):
    """Rows of each derivative, in the cheaper mode."""
    return [prompt + response - n for n in range(min(prompt, response))]


@pytest.mark.parametrize(("prompt", "response"), [(32, 60), (32, 150), (100, 150), (100, 60)])
def test_a_small_model_on_a_cpu_goes_in_chunks_for_the_cache(prompt, response, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    smol = blocks(576, 9, 3, 1536, 30, "cpu")
    found = plan(smol, prompt + response, lengths(prompt, response), 256 * MIB)
    assert found.chunk_rows == MERGED_ROWS and found.min_chunk_rows == ROWS and found.threads == 2
    assert len(split_layers(smol, prompt + response, found.cache_bytes)) == (1 if prompt + response < 200 else 2)


@pytest.mark.parametrize(("memory", "rows"), [(64 * MIB, range(16, 200)), (2**14 * MIB, [GPU_ROWS])], ids=str)
def test_chunks_of_a_large_model_on_a_gpu_are_as_large_as_memory_allows(memory, rows):
    large = blocks(4096, 32, 32, 11008, 32, "meta")  # as on any device that the core does not support
    found = plan(large, 250, lengths(100, 150), memory)
    assert found.chunk_rows in rows and found.threads == 1
    assert found.chunk_rows * row_bytes(large[0], 250, in_core=False) <= memory


@pytest.mark.parametrize("sizes", [(220, 220), (240, 200), (200, 210), (100, 150), (500, 500)], ids=str)
def test_a_cut_makes_no_chunk_smaller(sizes, monkeypatch):
    """With half of the memory for the cut, some prompts had chunks of 16 rows, at a quarter of the product rate."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    smol = blocks(576, 9, 3, 1536, 30, "cpu")
    count = count_opposite(smol, *sizes, sum(sizes), 256 * MIB)
    least, tokens = min(sizes), sum(sizes)
    stored = cut_bytes(smol, count, sizes[0] < sizes[1])
    found = plan(smol, tokens, [tokens - count - n for n in range(least)], 256 * MIB, stored)
    alone = plan(smol, tokens, lengths(*sizes), 256 * MIB)
    assert found.chunk_rows == alone.chunk_rows and found.threads == alone.threads
    assert found.cache_bytes >= min(alone.cache_bytes, cache_bytes(smol[0], tokens)) and (count > 0) == (
        sum(sizes) < 1000
    )


def test_without_enough_memory_chunks_are_small_and_segments_have_one_layer():
    found = plan(blocks(576, 9, 3, 1536, 30, "cpu"), 250, lengths(100, 150), 1)
    assert found.chunk_rows == 16 and found.threads == 1
    assert len(split_layers(blocks(576, 9, 3, 1536, 30, "cpu"), 250, found.cache_bytes)) == 30


@pytest.mark.long
@pytest.mark.parametrize("in_core", [True, False], ids=["core", "torch"])
@pytest.mark.parametrize("sizes", [(40, 70), (70, 40)], ids=str)
def test_the_whole_stays_within_its_memory(sizes, in_core, monkeypatch):
    if not in_core:
        monkeypatch.setattr(core_calls, "supports", lambda rows: False)
    module = tiny_module(
        "llama",
        hidden_size=96,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=256,
        num_hidden_layers=9,
    )
    model = views_of(module).transformer()
    ids = drawn(sum(sizes))
    rows_TD = module.get_input_embeddings()(torch.tensor(ids)).detach()
    tokens = importance.Tokens(rows_TD, slice(0, sizes[0]), torch.tensor(ids[sizes[0] :]))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # a dispatch mode sees its own thread only
    needed = sum(lengths(*sizes)) * 96 * 4 + cache_bytes(model.blocks[0], sum(sizes))
    for memory in (needed + 2 * MIB, needed + 6 * MIB):
        with Allocated() as allocated:
            importance.importance(model, tokens, memory)
        assert 0.5 * memory < allocated.most < 1.3 * memory


@pytest.mark.parametrize("in_core", [True, False], ids=["core", "torch"])
@pytest.mark.parametrize("sizes", [(12, 30), (30, 12)], ids=str)
def test_less_memory_gives_the_same_numbers(sizes, in_core, monkeypatch):
    if not in_core:
        monkeypatch.setattr(core_calls, "supports", lambda rows: False)
    seen = []
    monkeypatch.setattr(importance, "plan", lambda *given: seen.append(plan(*given)) or seen[-1])
    module = tiny_module("qwen3", num_hidden_layers=4).double()
    for memory in (EVERYTHING, MIB, MIB // 2, MIB // 4, MIB // 8, 1):
        assert compared(module, *sizes, memory)[0] < 1e-11
    assert len({found.chunk_rows for found in seen}) > 2


def test_parts_cover_all_items_in_order_and_are_about_equal():
    for lengths in ([1], [600], [5] * 1000, list(range(1, 200)), [3000, 1, 1]):
        found = split_items(lengths, MERGED_ROWS, ROWS)
        assert [i for part in found for i in range(part.start, part.stop)] == list(range(len(lengths)))
        assert all(part.stop > part.start for part in found)
    assert max(sum([5] * (part.stop - part.start)) for part in split_items([5] * 1000, ROWS, ROWS)) <= 520
    first, second = split_items(
        range(59, 27, -1), MERGED_ROWS, ROWS
    )  # 703 and 689 rows: no cut is nearer to the middle
    assert (first.stop, second.stop) == (13, 32)
    assert [len(split_items([rows], MERGED_ROWS, ROWS)) for rows in (1, 440)] == [1, 1]
    for rows, count in ((440, 1), (460, 2), (4000, 2), (7000, 4)):
        assert len(split_items([1] * rows, MERGED_ROWS, ROWS)) == count


def test_segments_respect_the_memory():
    blocks = views_of(tiny_module("llama", num_hidden_layers=7)).transformer().blocks
    each = cache_bytes(blocks[0], 50)
    assert [len(run) for run in split_layers(blocks, 50, 3 * each)] == [3, 3, 1]
    assert [len(run) for run in split_layers(blocks, 50, 0)] == [1] * 7
