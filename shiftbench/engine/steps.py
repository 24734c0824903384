"""What becomes of a chunk of derivatives in a run of layers, on either side of a border (border.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from shiftbench.engine import modes, stages
from shiftbench.engine.border import Border
from shiftbench.engine.kept import KeptBlock
from shiftbench.engine.modes import Heads
from shiftbench.engine.passes import Layers
from shiftbench.engine.product import Precision
from shiftbench.engine.rows import Stretches, moved
from shiftbench.engine.schedule import Chunk


@dataclass(frozen=True)
class Top:
    """Cotangents of R response tokens within the last layer, where each is of its own position alone.

    They are pulled as far as the heads' outputs once, and no tangent need be pushed farther.
    sum_RD: of what attention adds to; mixed_RO: of the heads' outputs. first: the position of the first.
    """

    layer: int
    first: int
    sum_RD: Tensor
    mixed_RO: Tensor

    @classmethod
    def of(cls, number: int, layer: KeptBlock, first: int, direction_RD: Tensor, precision: Precision) -> Top:
        """From cotangents of the last layer's output."""
        at = each_one(range(first, first + len(direction_RD)))
        sum_ND = at.filled(direction_RD.to(layer.attention.key_KTE.device))
        mixed_NHE = modes.pull_to_mixed(layer, sum_ND, at, precision)
        return cls(number, first, sum_ND[: len(direction_RD)], mixed_NHE[: len(direction_RD)].flatten(1))

    def meet(self, rows_ND: Tensor, mixed_NO: Tensor, at: Stretches) -> Tensor:
        """importance_CR of C tangents of the layer's input and of the heads' outputs, on the R positions of each."""
        of_sum_CR = (_by_item(rows_ND, at) * self.sum_RD).sum(-1)
        return of_sum_CR.add_((_by_item(mixed_NO, at) * self.mixed_RO).sum(-1))


def each_one(born: range) -> Stretches:
    """An item a position, one row each."""
    return Stretches(tuple(born), tuple(n + 1 for n in born))


def pushed(
    chunk: Chunk, layers: Layers, precision: Precision, cut: int, last: int, border: Border | None, top: Top | None
) -> Chunk:
    """Tangents of positions before the cut; by the border they meet cotangents of those behind it, before the last.

    top: of the highest run of layers. What comes out of that has importance_CR for rows.
    """
    at, rows_ND, met_CB = chunk.at, chunk.rows_ND, chunk.met_CB
    items = len(chunk.born)
    for number, layer in layers:
        here = top if top is not None and number == top.layer else None
        target = Stretches(chunk.born, (cut,) * items) if here is None else _same(items, here.first, cut)
        rows_ND = rows_ND.to(layer.attention.key_KTE.device)
        queries = at.common(target)
        heads = modes.push_to_heads(layer, rows_ND, at, queries, precision)
        if border is not None:
            met_CB = _sum(met_CB, _met(border, number, layer, heads, at, cut, last))
        mixed_NO = stages.attention_tangent(layer.attention, *heads, queries, at, target)
        del heads
        rows_ND, at = moved(rows_ND, at, target), target
        if here is not None:
            rows_ND = here.meet(rows_ND, mixed_NO, at)
            break
        rows_ND = modes.push_from_mixed(layer, rows_ND, mixed_NO, at, precision)
        del mixed_NO
        rows_ND = modes.push_through_feed_forward(layer, rows_ND, at, precision)
    return Chunk(chunk.born, at, rows_ND, met_CB)


def _met(border: Border, number: int, layer: KeptBlock, heads: Heads, at: Stretches, cut: int, last: int) -> Tensor:
    """met_CB: what tangents of keys and values change behind the cut, where nothing else has, and meet there.

    A few items at a time, so that what they change takes no more rows than half of their own.
    """
    found = []
    for rows, own, nobody, behind in _few_at_a_time(at, cut, last):
        changed = (heads.query_NHE[:0], heads.key_NKE[rows], heads.value_NKE[rows])
        mixed_NO = stages.attention_tangent(layer.attention, *changed, nobody, own, behind)
        found.append(border.meet(number, _by_item(mixed_NO, behind)))
        del mixed_NO
    return torch.cat(found)


@lru_cache(maxsize=64)  # the same in all layers but the first
def _few_at_a_time(at: Stretches, cut: int, last: int) -> tuple[tuple[slice, Stretches, Stretches, Stretches], ...]:
    """(their rows, where those are, nowhere, behind the cut) of a few items after another."""
    step, found = max(1, at.offsets[-1] // (2 * (last - cut))), []
    for begin in range(0, len(at.starts), step):
        own = Stretches(at.starts[begin : begin + step], at.stops[begin : begin + step])
        items = len(own.starts)
        rows = slice(at.offsets[begin], at.offsets[begin + items])
        found.append((rows, own, _same(items, cut, cut), _same(items, cut, last)))
    return tuple(found)


def pulled_to(chunk: Chunk, layers: Layers, precision: Precision, cut: int, border: Border) -> Chunk:
    """Cotangents of positions from the cut on, left at the border layer by layer; below the first layer is nothing."""
    at, rows_ND = chunk.at, chunk.rows_ND
    target = Stretches((cut,) * len(chunk.born), tuple(t + 1 for t in chunk.born))
    for number, layer in reversed(layers):
        rows_ND = rows_ND.to(layer.attention.key_KTE.device)
        mixed_NHE = modes.pull_to_mixed(layer, rows_ND, at, precision)
        border.leave(number, at, chunk.born[0], mixed_NHE)
        if number == 0:
            break
        heads = Heads(*stages.attention_cotangent(layer.attention, mixed_NHE, at, at, target))
        del mixed_NHE
        rows_ND = modes.pull_from_heads(layer, rows_ND, heads, at, target, precision)
        at = target
    return Chunk(chunk.born, at, rows_ND)


def pulled(chunk: Chunk, layers: Layers, precision: Precision, prompt: slice, cut: int, border: Border | None) -> Chunk:
    """Cotangents of positions from the cut on; by the border they meet tangents of the prompt's in front of it."""
    at, rows_ND, met_CB = chunk.at, chunk.rows_ND, chunk.met_CB
    items = len(chunk.born)
    front = _same(items, prompt.start, cut)
    for number, layer in reversed(layers):
        stops = tuple(t + 1 for t in chunk.born) if number > 0 else (prompt.stop,) * items  # only these matter
        target, keys = Stretches((cut,) * items, stops), Stretches(front.starts, stops)
        rows_ND = rows_ND.to(layer.attention.key_KTE.device)
        mixed_NHE = modes.pull_to_mixed(layer, rows_ND, at, precision)
        heads = Heads(*stages.attention_cotangent(layer.attention, mixed_NHE, at, at.common(target), keys))
        del mixed_NHE
        if border is not None:
            met_CB = _sum(met_CB, border.meet(number, *(_by_item(_on(x, keys, front), front) for x in heads[1:])))
            heads = Heads(heads.query_NHE, *(_on(x, keys, target) for x in heads[1:]))
        rows_ND = modes.pull_from_heads(layer, rows_ND, heads, at, target, precision)
        at = target
    return Chunk(chunk.born, at, rows_ND, met_CB)


def pushed_to(chunk: Chunk, layers: Layers, precision: Precision, cut: int, highest: int, border: Border) -> Chunk:
    """Tangents of positions before the cut, left at the border layer by layer, of which `highest` is the last."""
    at, rows_ND = chunk.at, chunk.rows_ND
    target = Stretches(chunk.born, (cut,) * len(chunk.born))
    for number, layer in layers:
        rows_ND = rows_ND.to(layer.attention.key_KTE.device)
        queries = at if number < highest else replace(at, stops=at.starts)
        heads = modes.push_to_heads(layer, rows_ND, at, queries, precision)
        border.leave(number, at, chunk.born[0], *heads[1:])
        if number == highest:
            break
        mixed_NO = stages.attention_tangent(layer.attention, *heads, queries, at, target)
        del heads
        rows_ND = modes.push_from_mixed(layer, moved(rows_ND, at, target), mixed_NO, target, precision)
        at = target
        del mixed_NO
        rows_ND = modes.push_through_feed_forward(layer, rows_ND, at, precision)
    return Chunk(chunk.born, at, rows_ND)


def _same(items: int, start: int, stop: int) -> Stretches:
    return Stretches((start,) * items, (stop,) * items)


def _by_item(rows: Tensor, at: Stretches) -> Tensor:
    """[items, positions, ...] of rows whose items have the same positions."""
    return rows[: at.offsets[-1]].unflatten(0, (len(at.starts), -1))


def _on(x_NKE: Tensor, source: Stretches, target: Stretches) -> Tensor:
    return moved(x_NKE.flatten(1), source, target).unflatten(1, x_NKE.shape[1:])


def _sum(met_CB: Tensor | None, more_CB: Tensor) -> Tensor:
    return more_CB if met_CB is None else met_CB.add_(more_CB.to(met_CB.device))
