"""Tangents and cotangents that end at a cut give together what either kind gives without a cut."""

import pytest
import torch

from shiftbench.engine import core_calls, importance
from shiftbench.engine.cut import BufferLayout, CutBuffer
from shiftbench.engine.product import Precision
from shiftbench.engine.row_layout import RowLayout
from shiftbench.engine.schedule import count_opposite, cut_bytes
from shiftbench.perf import counters
from tests.engine.test_importance import EVERYTHING, compared
from tests.engine.test_precision import tiny_case
from tests.engine.test_schedule import blocks
from tests.tiny import ARCHITECTURES, tiny_module

MIB = 2**20


def force_opposite(monkeypatch, count):
    """Exactly `count` opposite derivatives, whatever the engine would choose."""
    monkeypatch.setattr(importance, "count_opposite", lambda *given: count)


def possible_counts(prompt, response):
    """Every number of opposite derivatives that these lengths allow."""
    return range(1, min(prompt, response, max(prompt, response) - 1) + 1)


@pytest.mark.parametrize("in_core", [True, False], ids=["core", "torch"])
@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["all cached", "a layer at a time"])
@pytest.mark.parametrize("lengths", [(7, 9), (9, 7), (8, 8)], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_cut_anywhere_changes_nothing(architecture, lengths, memory, in_core, monkeypatch):
    if not in_core:
        monkeypatch.setattr(core_calls, "supports", lambda rows: False)
    module = tiny_module(architecture, num_hidden_layers=3).double()
    for count in possible_counts(*lengths):
        force_opposite(monkeypatch, count)
        assert compared(module, *lengths, memory)[0] < 1e-11


@pytest.mark.parametrize("lengths", [(21, 37), (37, 21)], ids=str)
@pytest.mark.parametrize("change", [{"num_hidden_layers": 1}, {"num_key_value_heads": 1}], ids=str)
def test_a_cut_over_several_tiles_and_chunks(change, lengths, monkeypatch):
    monkeypatch.setattr("shiftbench.engine.schedule.ROWS", 48)
    module = tiny_module("llama", **change).double()
    for count in (1, 16, 17, 21):
        force_opposite(monkeypatch, count)
        assert compared(module, *lengths)[0] < 1e-10


@pytest.mark.parametrize("lengths", [(21, 37), (37, 21)], ids=str)
def test_windows_that_end_before_the_cut(lengths, monkeypatch):
    module = tiny_module("mistral", sliding_window=5).double()
    for count in (3, 21):
        force_opposite(monkeypatch, count)
        assert compared(module, *lengths)[0] < 1e-10


@pytest.mark.parametrize("lengths", [(12, 15), (15, 12)], ids=str)
def test_precision_is_that_of_the_products_on_both_sides(lengths, monkeypatch):
    model, tokens = tiny_case("qwen3", *lengths)
    force_opposite(monkeypatch, 9)
    wanted_PR, _ = importance.importance(model, tokens, EVERYTHING)
    found_PR, _ = importance.importance(model, tokens, EVERYTHING, Precision.BFLOAT16)
    assert 1e-5 < float((found_PR - wanted_PR).abs().max() / wanted_PR.abs().max()) < 0.1


@pytest.mark.parametrize("lengths", [(40, 70), (70, 40)], ids=str)
def test_a_cut_saves_the_expected_rows(lengths, monkeypatch):
    """P R rows instead of P R + min^2 / 2, in all layers, but for the parts of the first and the last."""
    model, tokens = tiny_case("llama", *lengths, num_hidden_layers=8)
    flops = {}
    for count in (0, min(lengths)):
        force_opposite(monkeypatch, count)
        found = counters.attribution(lambda: importance.importance(model, tokens, EVERYTHING))
        flops[count] = found["flops"]
        assert found["layers_forward"] == len(model.blocks)
    prompt, response = lengths
    saved = min(lengths) ** 2 / 2 / (prompt * response + min(lengths) ** 2 / 2)
    assert flops[min(lengths)] / flops[0] == pytest.approx(1 - saved, abs=0.07)


def test_as_many_opposite_derivatives_as_pay_and_fit():
    smol = blocks(576, 9, 3, 1536, 30, "cpu")
    assert count_opposite(smol, 32, 150, 182, 280 * MIB) == 32
    assert count_opposite(smol, 5, 9, 14, 256 * MIB) == 0  # they would cost more than they save
    assert count_opposite(smol, 100, 100, 200, 2**14 * MIB) == 99
    assert count_opposite(smol, 100, 150, 250, 1) == count_opposite(smol, 100, 150, 250, 70 * MIB) == 0
    for lengths, forward in (((100, 150), True), ((150, 100), False)):
        small, large = (count_opposite(smol, *lengths, 250, memory * MIB) for memory in (128, 256))
        assert 0 < small < large < 100
        assert cut_bytes(smol, large, forward) < 2 / 3 * 256 * MIB


def ragged(opposite, *width):
    """Random rows of items at their positions, and the same numbers as a block [items, positions, *width]."""
    draw = torch.Generator().manual_seed(0)
    rows = opposite.new_rows(torch.empty(0, dtype=torch.float64), *width)
    rows.copy_(torch.randn(rows.shape, generator=draw, dtype=torch.float64))
    begin = min(opposite.starts)
    block = rows.new_zeros(len(opposite.starts), max(opposite.stops) - begin, *width)
    for i, ends in enumerate(zip(opposite.starts, opposite.stops, strict=True)):
        block[i, slice(*(end - begin for end in ends))] = rows[opposite.rows_of(i, *ends)]
    return rows, block


@pytest.mark.parametrize(
    "opposite",
    [RowLayout((30,) * 40, tuple(range(31, 71))), RowLayout(tuple(range(3, 24)), (24,) * 21), RowLayout((4,), (5,))],
    ids=["end", "begin", "one"],
)
def test_multiply_is_the_sum_of_products(opposite):
    (first, first_block), (second, second_block) = ragged(opposite, 2, 3), ragged(opposite, 5)
    buffer = CutBuffer(opposite)
    half = len(opposite.starts) // 2
    for items in (slice(half, None), slice(0, half)):  # in either order
        at = RowLayout(opposite.starts[items], opposite.stops[items])
        rows = slice(opposite.offsets[items.start], opposite.offsets[items.start] + at.offsets[-1])
        if at.starts:
            buffer.store(7, at, min(opposite.starts) + items.start, first[rows], second[rows])
    draw = torch.Generator().manual_seed(1)
    one, other = (torch.randn(6, *block.shape[1:], generator=draw, dtype=torch.float64)
                  for block in (first_block, second_block))  # fmt: skip
    wanted = torch.einsum("cpij,bpij->cb", one, first_block) + torch.einsum("cpi,bpi->cb", other, second_block)
    assert torch.allclose(buffer.multiply(7, one, other), wanted, rtol=1e-12, atol=1e-12)


def test_sums_of_half_precision_are_in_float32():
    opposite = RowLayout((0,) * 3, (1, 2, 3))
    buffer = CutBuffer(opposite)
    buffer.store(0, opposite, 0, torch.ones(opposite.rows, 400, dtype=torch.bfloat16))
    found_CX = buffer.multiply(0, torch.ones(2, 3, 400, dtype=torch.bfloat16))
    assert found_CX.dtype == torch.float32 and found_CX[0].tolist() == [400, 800, 1200]


def test_the_buffer_holds_little_more_than_the_rows():
    opposite = RowLayout((30,) * 100, tuple(range(31, 131)))
    assert opposite.offsets[-1] <= BufferLayout(opposite).rows <= 100 * (100 + 16) / 2
