"""Attention's derivatives by torch, for items of any lengths, against the compiled core's."""

import pytest
import torch

from shiftbench.engine import core_calls, part_derivatives
from shiftbench.engine.dense_blocks import group_items
from shiftbench.engine.forward_cache import AttentionCache
from shiftbench.engine.importance import Tokens, importance
from shiftbench.engine.row_layout import RowLayout, move_rows
from shiftbench.models.block import Attention, Linear
from shiftbench.models.views import views_of
from tests.engine.test_importance import EVERYTHING, drawn
from tests.tiny import ARCHITECTURES, tiny_module

TOKENS, WIDTH = 23, 6
# (starts, stops) of queries, keys, mixed: from the origin on; the last layer; first layer; keys across the cut; one
# item; one row; ragged.
FORWARD = [
    (((2, 3, 7, 8), (20,) * 4), ((2, 3, 7, 8), (20,) * 4), ((2, 3, 7, 8), (20,) * 4)),
    (((9, 9, 9), (20,) * 3), ((2, 3, 7), (20,) * 3), ((9, 9, 9), (20,) * 3)),
    (((2, 3, 7), (3, 4, 8)), ((2, 3, 7), (3, 4, 8)), ((2, 3, 7), (20,) * 3)),
    (((9, 9, 9), (9, 9, 9)), ((2, 3, 7), (3, 4, 8)), ((9, 9, 9), (20,) * 3)),
    (((0,), (23,)), ((0,), (23,)), ((0,), (23,))),
    (((4,), (5,)), ((4,), (5,)), ((4,), (5,))),
    (((4, 0, 9), (11, 3, 23)), ((1, 0, 5), (12, 4, 23)), ((3, 0, 5), (12, 4, 23))),
    (((4, 0, 9), (11, 3, 23)), ((1, 0, 5), (9, 3, 20)), ((3, 0, 5), (12, 4, 23))),  # fewer keys than the item before it
]
REVERSE = [
    (((1, 1, 1), (10, 16, 23)), ((1, 1, 1), (10, 16, 23)), ((1, 1, 1), (10, 16, 23))),
    (((1, 1, 1), (10, 10, 10)), ((1, 1, 1), (10, 10, 10)), ((1, 1, 1), (11, 16, 23))),
    (((10, 15), (11, 16)), ((1, 1), (11, 16)), ((10, 15), (11, 16))),
    (((9, 9), (9, 9)), ((1, 1), (5, 5)), ((9, 14), (10, 15))),
    (((0,), (23,)), ((0,), (23,)), ((0,), (23,))),
    (((5, 2, 9), (11, 3, 23)), ((1, 0, 5), (9, 3, 20)), ((3, 2, 5), (12, 4, 23))),
]


scores = pytest.mark.parametrize(
    "scores", [part_derivatives.SCORES, 1, 0], ids=["together", "some together", "one by one"]
)
heads = pytest.mark.parametrize("heads", [(2, 3), (4, 1), (1, 1)], ids=str)


def random_cache(key_heads, group, seed=0):
    """A random forward cache of attention, causal as a real one is."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    heads = key_heads * group
    weight, key_weight = Linear(torch.empty(1, heads * WIDTH)), Linear(torch.empty(1, key_heads * WIDTH))
    spec = Attention(weight, key_weight, key_weight, weight, heads, key_heads, scale=0.37)
    probability = normal(key_heads, group, TOKENS, TOKENS).exp().tril()
    slope = probability * normal(key_heads, group, TOKENS, TOKENS).abs()
    by_query, by_key = (key_heads, group, TOKENS, WIDTH), (key_heads, TOKENS, WIDTH)
    return AttentionCache(
        spec, None, None, normal(*by_query), normal(*by_key), normal(*by_key), probability, slope, normal(*by_query)
    )


def rows(layout, heads, seed):
    """Random rows, in the padding too, which must not change any result."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(layout.rows, heads, WIDTH, generator=draw, dtype=torch.float64)


def with_and_without_core(monkeypatch, step):
    """What a step returns with the core and without it."""
    found = [step()]
    monkeypatch.setattr(core_calls, "supports", lambda rows: False)
    return *found, step()


def assert_close(wanted, found, layout):
    own = slice(0, layout.offsets[-1])
    assert wanted.shape == found.shape
    if not wanted.numel():
        return
    assert torch.allclose(found[own], wanted[own], rtol=1e-12, atol=1e-12 * float(wanted.abs().max()))
    assert torch.isfinite(found).all()


@scores
@heads
@pytest.mark.parametrize("ends", FORWARD, ids=str)
def test_tangents_are_the_cores(ends, heads, scores, monkeypatch):
    monkeypatch.setattr(part_derivatives, "SCORES", scores)
    queries, keys, target = (RowLayout(*both) for both in ends)
    cache = random_cache(*heads)
    given = rows(queries, cache.spec.heads, 1), rows(keys, heads[0], 2), rows(keys, heads[0], 3)
    step = lambda: part_derivatives.attention_jvp(cache, *given, queries, keys, target)  # noqa: E731
    assert_close(*with_and_without_core(monkeypatch, step), target)


@scores
@heads
@pytest.mark.parametrize("ends", REVERSE, ids=str)
def test_cotangents_are_the_cores(ends, heads, scores, monkeypatch):
    monkeypatch.setattr(part_derivatives, "SCORES", scores)
    queries, keys, source = (RowLayout(*both) for both in ends)
    cache = random_cache(*heads)
    mixed = rows(source, cache.spec.heads, 1)
    step = lambda: part_derivatives.attention_vjp(cache, mixed, source, queries, keys)  # noqa: E731
    wanted, found = with_and_without_core(monkeypatch, step)
    for one, other, layout in zip(wanted, found, (queries, keys, keys), strict=True):
        assert_close(one, other, layout)


def test_groups_hold_all_items_once_within_the_scores():
    at = RowLayout(tuple(range(10)), (20,) * 10)
    for scores, count in ((10**9, 1), (3 * 400, 4), (0, 10)):
        found = group_items(at, at, at, scores, torch.device("cpu"))
        assert len(found) == count and sum(group.items for group in found) == 10
        assert [i for group in found for i in range(at.rows)[group.mixed.rows]] == list(range(at.offsets[-1]))
        assert all(group.items == 1 or group.items * 400 <= scores for group in found)


@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["all cached", "a layer at a time"])
@pytest.mark.parametrize("lengths", [(9, 21), (21, 9), (1, 1)], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_importance_is_the_cores(architecture, lengths, memory, monkeypatch):
    module = tiny_module(architecture, num_hidden_layers=3).double()
    ids = drawn(2 + sum(lengths))
    cut = slice(2, 2 + lengths[0])
    tokens = Tokens(module.get_input_embeddings()(torch.tensor(ids)), cut, torch.tensor(ids[cut.stop :]))
    model = views_of(module).transformer()
    (wanted_PR, _), (found_PR, _) = with_and_without_core(monkeypatch, lambda: importance(model, tokens, memory))
    assert float(((found_PR - wanted_PR).abs().amax(0) / wanted_PR.abs().amax(0)).max()) < 1e-12


def test_moved_rows_are_zero_where_the_source_has_none():
    source, target = RowLayout((1, 4, 8), (3, 6, 9)), RowLayout((2, 2, 2), (5, 5, 5))
    found = move_rows(torch.arange(1.0, source.rows + 1)[:, None], source, target)
    assert found[:, 0].tolist() == [2, 0, 0, 0, 0, 3, 0, 0, 0, *[0] * (target.rows - 9)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["all cached", "a layer at a time"])
@pytest.mark.parametrize("lengths", [(9, 21), (21, 9)], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_importance_on_a_gpu_is_the_cpus(architecture, lengths, memory):
    module = tiny_module(architecture, num_hidden_layers=3).double()
    ids = drawn(2 + sum(lengths))
    cut = slice(2, 2 + lengths[0])
    found = []
    for device in ("cpu", "cuda"):
        module.to(device)
        ids_T = torch.tensor(ids, device=device)
        tokens = Tokens(module.get_input_embeddings()(ids_T), cut, ids_T[cut.stop :])
        found.append(importance(views_of(module).transformer(), tokens, memory)[0].cpu())
    assert float(((found[1] - found[0]).abs().amax(0) / found[0].abs().amax(0)).max()) < 1e-11
