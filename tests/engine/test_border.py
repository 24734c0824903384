"""Tangents that end at a border and cotangents that end there: together they are what either would be alone."""

import pytest
import torch

from shiftbench.engine import core, importance
from shiftbench.engine.border import Border, Layout
from shiftbench.engine.product import Precision
from shiftbench.engine.rows import Stretches
from shiftbench.engine.schedule import border_bytes, crossing
from shiftbench.perf import counters
from tests.engine.test_importance import EVERYTHING, compared
from tests.engine.test_precision import asked
from tests.engine.test_schedule import blocks
from tests.tiny import ARCHITECTURES, tiny_module

MIB = 2**20


def crosses(monkeypatch, count):
    """So many derivatives go the other way, whatever would pay."""
    monkeypatch.setattr(importance, "crossing", lambda *given: count)


def everywhere(prompt, response):
    """Every border that these lengths allow."""
    return range(1, min(prompt, response, max(prompt, response) - 1) + 1)


@pytest.mark.parametrize("served", [True, False], ids=["core", "torch"])
@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["all kept", "a layer at a time"])
@pytest.mark.parametrize("lengths", [(7, 9), (9, 7), (8, 8)], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_border_anywhere_changes_nothing(architecture, lengths, memory, served, monkeypatch):
    if not served:
        monkeypatch.setattr(core, "serves", lambda rows: False)
    module = tiny_module(architecture, num_hidden_layers=3).double()
    for count in everywhere(*lengths):
        crosses(monkeypatch, count)
        assert compared(module, *lengths, memory)[0] < 1e-11


@pytest.mark.parametrize("lengths", [(21, 37), (37, 21)], ids=str)
@pytest.mark.parametrize("change", [{"num_hidden_layers": 1}, {"num_key_value_heads": 1}], ids=str)
def test_a_border_over_several_blocks_and_chunks(change, lengths, monkeypatch):
    monkeypatch.setattr("shiftbench.engine.schedule.ROWS", 48)
    module = tiny_module("llama", **change).double()
    for count in (1, 16, 17, 21):
        crosses(monkeypatch, count)
        assert compared(module, *lengths)[0] < 1e-10


@pytest.mark.parametrize("lengths", [(21, 37), (37, 21)], ids=str)
def test_windows_that_end_before_the_border(lengths, monkeypatch):
    module = tiny_module("mistral", sliding_window=5).double()
    for count in (3, 21):
        crosses(monkeypatch, count)
        assert compared(module, *lengths)[0] < 1e-10


@pytest.mark.parametrize("lengths", [(12, 15), (15, 12)], ids=str)
def test_precision_is_that_of_the_products_on_both_sides(lengths, monkeypatch):
    model, tokens = asked("qwen3", *lengths)
    crosses(monkeypatch, 9)
    wanted_PR, _ = importance.importance(model, tokens, EVERYTHING)
    found_PR, _ = importance.importance(model, tokens, EVERYTHING, Precision.BFLOAT16)
    assert 1e-5 < float((found_PR - wanted_PR).abs().max() / wanted_PR.abs().max()) < 0.1


@pytest.mark.parametrize("lengths", [(40, 70), (70, 40)], ids=str)
def test_it_spares_the_rows_that_it_should(lengths, monkeypatch):
    """P R rows instead of P R + min^2 / 2, in all layers, but for the parts of the first and the last."""
    model, tokens = asked("llama", *lengths, num_hidden_layers=8)
    made = {}
    for count in (0, min(lengths)):
        crosses(monkeypatch, count)
        found = counters.attribution(lambda: importance.importance(model, tokens, EVERYTHING))
        made[count] = found["flops"]
        assert found["layers_forward"] == len(model.blocks)
    prompt, response = lengths
    spared = min(lengths) ** 2 / 2 / (prompt * response + min(lengths) ** 2 / 2)
    assert made[min(lengths)] / made[0] == pytest.approx(1 - spared, abs=0.07)


def test_as_many_cross_as_pay_and_fit():
    smol = blocks(576, 9, 3, 1536, 30, "cpu")
    assert crossing(smol, 32, 150, 182, 280 * MIB) == 32
    assert crossing(smol, 5, 9, 14, 256 * MIB) == 0  # more is lost than they would spare
    assert crossing(smol, 100, 100, 200, 2**14 * MIB) == 99
    assert crossing(smol, 100, 150, 250, 1) == crossing(smol, 100, 150, 250, 70 * MIB) == 0
    for lengths, forward in (((100, 150), True), ((150, 100), False)):
        small, large = (crossing(smol, *lengths, 250, memory * MIB) for memory in (128, 256))
        assert 0 < small < large < 100
        assert border_bytes(smol, large, forward) < 2 / 3 * 256 * MIB


def ragged(few, *width):
    """Random rows of items at their positions, and the same as a block [items, positions, *width]."""
    draw = torch.Generator().manual_seed(0)
    rows = few.empty(torch.empty(0, dtype=torch.float64), *width)
    rows.copy_(torch.randn(rows.shape, generator=draw, dtype=torch.float64))
    begin = min(few.starts)
    block = rows.new_zeros(len(few.starts), max(few.stops) - begin, *width)
    for i, ends in enumerate(zip(few.starts, few.stops, strict=True)):
        block[i, slice(*(end - begin for end in ends))] = rows[few.of(i, *ends)]
    return rows, block


@pytest.mark.parametrize(
    "few",
    [Stretches((30,) * 40, tuple(range(31, 71))), Stretches(tuple(range(3, 24)), (24,) * 21), Stretches((4,), (5,))],
    ids=["end", "begin", "one"],
)
def test_what_meets_is_the_sum_of_products(few):
    (first, first_block), (second, second_block) = ragged(few, 2, 3), ragged(few, 5)
    border = Border(few)
    half = len(few.starts) // 2
    for items in (slice(half, None), slice(0, half)):  # whoever comes first
        at = Stretches(few.starts[items], few.stops[items])
        rows = slice(few.offsets[items.start], few.offsets[items.start] + at.offsets[-1])
        if at.starts:
            border.leave(7, at, min(few.starts) + items.start, first[rows], second[rows])
    draw = torch.Generator().manual_seed(1)
    one, other = (torch.randn(6, *block.shape[1:], generator=draw, dtype=torch.float64)
                  for block in (first_block, second_block))  # fmt: skip
    wanted = torch.einsum("cpij,bpij->cb", one, first_block) + torch.einsum("cpi,bpi->cb", other, second_block)
    assert torch.allclose(border.meet(7, one, other), wanted, rtol=1e-12, atol=1e-12)


def test_sums_of_half_precision_are_in_float32():
    few = Stretches((0,) * 3, (1, 2, 3))
    border = Border(few)
    border.leave(0, few, 0, torch.ones(few.rows, 400, dtype=torch.bfloat16))
    found_CB = border.meet(0, torch.ones(2, 3, 400, dtype=torch.bfloat16))
    assert found_CB.dtype == torch.float32 and found_CB[0].tolist() == [400, 800, 1200]


def test_the_buffer_holds_little_more_than_the_rows():
    few = Stretches((30,) * 100, tuple(range(31, 131)))
    assert few.offsets[-1] <= Layout(few).rows <= 100 * (100 + 16) / 2
