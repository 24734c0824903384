"""The core's own products: merged gate and up-projection, and thin products that read each weight once."""

from types import SimpleNamespace

import pytest
import torch

from shiftbench import _C
from shiftbench.engine import core_calls, layer_derivatives
from shiftbench.engine.product import Precision
from shiftbench.engine.schedule import threads_each
from shiftbench.models.block import FeedForward, Linear
from tests.engine.conftest import drawn

ERROR = {torch.float32: 3e-6, torch.float64: 1e-14}  # of the largest number


def network(width, inner, positions, dtype):
    """(weights, forward cache) with slopes of either sign, some of them 0 or nearly 0."""
    up, gate = (Linear(drawn(inner, width, seed=seed, dtype=dtype).T) for seed in (1, 2))
    slopes = [drawn(positions, inner, seed=seed, dtype=dtype) for seed in (3, 4)]
    for slope, step in zip(slopes, (5, 4), strict=True):
        slope[slope.abs() < 0.3] = 0.0
        slope[:, 1::step] = -1e-20
    return FeedForward(up, None, torch.nn.functional.silu, gate), SimpleNamespace(
        up_slope_TF=slopes[0], gate_slope_TF=slopes[1]
    )


def in_two_products(inner, cache, x, position_N, cotangent):
    """The formula, in float64."""
    up_IO, gate_IO = inner.up.weight_IO.double(), inner.gate.weight_IO.double()
    up, gate = cache.up_slope_TF.double()[position_N], cache.gate_slope_TF.double()[position_N]
    x = x.double()
    if cotangent:
        return (x * up) @ up_IO.T + (x * gate) @ gate_IO.T
    return up * (x @ up_IO) + gate * (x @ gate_IO)


# Whole tiles and not, one position and many, more rows at a position than a tile has, sums deeper than one part.
SHAPES = [(1, 1, 1, 1), (5, 3, 2, 3), (32, 96, 7, 40), (33, 65, 5, 90), (700, 50, 3, 31), (48, 1400, 3, 20)]


@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize(("width", "inner", "positions", "rows"), SHAPES, ids=str)
@pytest.mark.parametrize("cotangent", [False, True], ids=["tangent", "cotangent"])
def test_merged_projections_equal_two_products(cotangent, width, inner, positions, rows, dtype, instructions):
    layer, cache = network(width, inner, positions, dtype)
    draws = torch.Generator().manual_seed(5)
    position_N = torch.randint(0, positions, (rows,), generator=draws)
    x = drawn(rows, inner if cotangent else width, seed=6, dtype=dtype)
    assert core_calls.merges_gate(layer, x)
    found = core_calls.gate_up_derivative(cache, layer, x, position_N, cotangent)
    wanted = in_two_products(layer, cache, x, position_N, cotangent)
    assert found.dtype == dtype and found.shape == wanted.shape
    assert float((found - wanted).abs().max() / wanted.abs().max()) < ERROR[dtype]
    # A row depends on itself and its position alone, to the last bit, whatever rows are beside it.
    some = torch.randperm(rows, generator=draws)[: rows // 3 + 1]
    assert torch.equal(core_calls.gate_up_derivative(cache, layer, x[some], position_N[some], cotangent), found[some])


@pytest.mark.parametrize("cotangent", [False, True], ids=["tangent", "cotangent"])
def test_threads_share_the_columns(cotangent):
    layer, cache = network(150, 200, 4, torch.float32)
    x, position_N = drawn(30, 200 if cotangent else 150, dtype=torch.float32), torch.arange(30) % 4
    found = []
    for threads in (1, 2, 9):
        with threads_each(threads):
            found.append(core_calls.gate_up_derivative(cache, layer, x, position_N, cotangent))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_a_position_without_rows_and_no_rows_at_all():
    layer, cache = network(8, 12, 6, torch.float32)
    found = core_calls.gate_up_derivative(
        cache, layer, drawn(2, 8, dtype=torch.float32), torch.tensor([4, 1]), cotangent=False
    )
    assert found.shape == (2, 12)
    no_rows = torch.empty(0, 8), torch.empty(0, dtype=torch.int64)
    assert core_calls.gate_up_derivative(cache, layer, *no_rows, cotangent=False).shape == (0, 12)


@pytest.mark.parametrize("cotangent", [False, True], ids=["tangent", "cotangent"])
def test_the_engine_merges_where_the_core_supports_it(cotangent, monkeypatch):
    calls = []
    monkeypatch.setattr(
        core_calls,
        "gate_up_derivative",
        lambda *given, original=core_calls.gate_up_derivative, **how: calls.append(1) or original(*given, **how),
    )
    layer, cache = network(16, 24, 3, torch.float32)
    position_N = torch.tensor([0, 2, 1, 1])
    x = drawn(4, 24 if cotangent else 16, dtype=torch.float32)
    function = layer_derivatives._inner_vjp if cotangent else layer_derivatives._inner_jvp
    other_strides = layer.__class__(
        Linear(layer.up.weight_IO.contiguous()), None, layer.activation, Linear(layer.gate.weight_IO.contiguous())
    )
    found = []
    for precision, own, count in (
        (Precision.FLOAT32, layer, 1),
        (Precision.FLOAT32, other_strides, 1),
        (Precision.BFLOAT16, layer, 1),
    ):
        block = SimpleNamespace(block=SimpleNamespace(feed_forward=own), feed_forward=cache)
        found.append(function(block, x.clone(), position_N, precision))
        assert len(calls) == count
    wanted = in_two_products(layer, cache, x, position_N, cotangent)
    for result, error in zip(found, (1e-5, 1e-5, 0.05), strict=True):
        assert float((result - wanted).abs().max() / wanted.abs().max()) < error


@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize(
    ("rows", "depth", "outputs"), [(1, 1, 1), (3, 40, 7), (13, 33, 50), (25, 700, 64), (70, 16, 9)]
)
def test_thin_product(rows, depth, outputs, dtype, instructions):
    weight_IO, x = drawn(outputs, depth, dtype=dtype).T, drawn(rows, depth, seed=1, dtype=dtype)
    found = core_calls.thin_product(x, weight_IO)
    wanted = x.double() @ weight_IO.double()
    assert found.dtype == dtype
    assert float((found - wanted).abs().max() / wanted.abs().max()) < ERROR[dtype]
    for some in (slice(0, 1), slice(rows // 2, rows)):
        assert torch.equal(core_calls.thin_product(x[some], weight_IO), found[some])


@pytest.mark.parametrize("x, weight", [(drawn(2, 3).half(), drawn(3, 4).half()), (drawn(2, 3), drawn(3, 4))], ids=str)
def test_thin_product_of_dtypes_and_strides_that_the_core_does_not_read(x, weight, monkeypatch):
    monkeypatch.setattr(_C, "small_batch_linear", None)
    assert torch.equal(core_calls.thin_product(x, weight), x @ weight)
