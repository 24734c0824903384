"""jvp and vjp of one chunk through a segment of layers, on either side of the cut.

There are four passes. `jvp_to_cut` and `vjp_to_cut` are for the opposite derivatives, which store their rows at the cut
(cut.py). `jvp` and `vjp` are for the main derivatives, which are multiplied with the stored rows. A pass takes the
input of a segment of layers to its output (jvp) or the other way (vjp), and returns a chunk with the rows at that end;
in the first or the last layer of the model some passes stop earlier, as their docstrings say.
A range of positions goes from a start to a stop, which is exclusive.
Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from shiftbench.engine import layer_derivatives, part_derivatives
from shiftbench.engine.cut import CutBuffer
from shiftbench.engine.forward_cache import LayerCache
from shiftbench.engine.layer_derivatives import HeadDerivatives
from shiftbench.engine.product import Precision
from shiftbench.engine.row_layout import RowLayout, move_rows
from shiftbench.engine.schedule import Chunk
from shiftbench.engine.segmented_forward import Layers


@dataclass(frozen=True)
class LastLayerCotangents:
    """Cotangents of R response tokens within the last layer.

    Behind the last layer's attention a response token's probability depends only on the position that predicts it, so
    its cotangent is one row. The cotangents are computed once down to the head outputs, and no tangent has to pass the
    rest of the layer.
    layer: the number of the last layer. first: the position that predicts the first of the R response tokens. sum_RD:
    cotangents of the attention sum. mixed_RO: cotangents of the head outputs.
    """

    layer: int
    first: int
    sum_RD: Tensor
    mixed_RO: Tensor

    @classmethod
    def compute(
        cls, number: int, layer: LayerCache, first: int, direction_RD: Tensor, precision: Precision
    ) -> LastLayerCotangents:
        """The cotangents within the last layer, from those of its output.

        number: of the layer. layer: the layer's forward cache. first: the position that predicts the first response
        token. direction_RD: each response token's cotangent of the layer's output.
        """
        layout = one_row_each(range(first, first + len(direction_RD)))
        sum_ND = layout.pad(direction_RD.to(layer.attention.key_KTE.device))
        mixed_NHE = layer_derivatives.vjp_to_mixed(layer, sum_ND, layout, precision)
        return cls(number, first, sum_ND[: len(direction_RD)], mixed_NHE[: len(direction_RD)].flatten(1))

    def multiply(self, rows_ND: Tensor, mixed_NO: Tensor, layout: RowLayout) -> Tensor:
        """importance_CR: the inner products of C tangents with the R cotangents.

        rows_ND: tangents of the layer's input, which are multiplied with sum_RD. mixed_NO: tangents of the head
        outputs, which are multiplied with mixed_RO; both products are added. layout: of both; every item has rows at
        the R positions that predict the response tokens, and at no others.
        """
        of_sum_CR = (_by_item(rows_ND, layout) * self.sum_RD).sum(-1)
        return of_sum_CR.add_((_by_item(mixed_NO, layout) * self.mixed_RO).sum(-1))


def one_row_each(positions: range) -> RowLayout:
    """A layout with one item for each position; the item's only row is at that position."""
    return RowLayout(tuple(positions), tuple(n + 1 for n in positions))


def jvp(
    chunk: Chunk,
    layers: Layers,
    precision: Precision,
    cut: int,
    last: int,
    opposite: CutBuffer | None,
    last_layer: LastLayerCotangents | None,
) -> Chunk:
    """Main derivatives of forward mode: tangents of prompt tokens through the segment, at positions before the cut.

    cut: without a cut it is equal to `last`. last: the end (exclusive) of the positions that predict response tokens.
    opposite: cotangents of the response tokens predicted at `cut` to `last` - 1; None without a cut. last_layer: given
    for the last segment, None for the others. Where it is given, rows_ND of the returned chunk is importance_CR, for
    the response tokens that are predicted before the cut.
    """
    layout, rows_ND, cross_CX = chunk.layout, chunk.rows_ND, chunk.cross_CX
    items = len(chunk.origins)
    for number, layer in layers:
        end = last_layer if last_layer is not None and number == last_layer.layer else None
        target = RowLayout(chunk.origins, (cut,) * items) if end is None else _equal_ranges(items, end.first, cut)
        rows_ND = rows_ND.to(layer.attention.key_KTE.device)
        queries = layout.intersect(target)
        heads = layer_derivatives.jvp_to_heads(layer, rows_ND, layout, queries, precision)
        if opposite is not None:
            cross_CX = _accumulate(cross_CX, _jvp_across_cut(opposite, number, layer, heads, layout, cut, last))
        mixed_NO = part_derivatives.attention_jvp(layer.attention, *heads, queries, layout, target)
        del heads
        rows_ND, layout = move_rows(rows_ND, layout, target), target
        if end is not None:
            rows_ND = end.multiply(rows_ND, mixed_NO, layout)
            break
        rows_ND = layer_derivatives.jvp_from_mixed(layer, rows_ND, mixed_NO, layout, precision)
        del mixed_NO
        rows_ND = layer_derivatives.jvp_feed_forward(layer, rows_ND, layout, precision)
    return Chunk(chunk.origins, layout, rows_ND, cross_CX)


def _jvp_across_cut(
    opposite: CutBuffer, number: int, layer: LayerCache, heads: HeadDerivatives, layout: RowLayout, cut: int, last: int
) -> Tensor:
    """cross_CX of one layer: tangents of the head outputs at positions from the cut on, times the stored cotangents.

    No query, key or value from the cut on has a tangent that is not zero; the keys and values before the cut have. The
    items are computed in batches, so that a batch has at most half as many rows from the cut on as the chunk has rows,
    or one item.
    """
    found = []
    for rows, own, no_queries, behind in _batches_across_cut(layout, cut, last):
        tangents = (heads.query_NHE[:0], heads.key_NKE[rows], heads.value_NKE[rows])
        mixed_NO = part_derivatives.attention_jvp(layer.attention, *tangents, no_queries, own, behind)
        found.append(opposite.multiply(number, _by_item(mixed_NO, behind)))
        del mixed_NO
    return torch.cat(found)


@lru_cache(maxsize=64)  # a chunk's first layer has fewer rows; all later layers ask for the same batches
def _batches_across_cut(
    layout: RowLayout, cut: int, last: int
) -> tuple[tuple[slice, RowLayout, RowLayout, RowLayout], ...]:
    """A tuple of four things for each batch of consecutive items.

    They are: the range of its rows in `layout`; the layout of these rows; a layout in which its items have no rows; and
    a layout in which each of its items has all positions from `cut` to `last` - 1.
    """
    step, found = max(1, layout.offsets[-1] // (2 * (last - cut))), []
    for begin in range(0, len(layout.starts), step):
        own = RowLayout(layout.starts[begin : begin + step], layout.stops[begin : begin + step])
        items = len(own.starts)
        rows = slice(layout.offsets[begin], layout.offsets[begin + items])
        found.append((rows, own, _equal_ranges(items, cut, cut), _equal_ranges(items, cut, last)))
    return tuple(found)


def vjp_to_cut(chunk: Chunk, layers: Layers, precision: Precision, cut: int, opposite: CutBuffer) -> Chunk:
    """Opposite derivatives of forward mode: cotangents of response tokens predicted at the cut or behind it.

    They go from the segment's output to its input, at positions from the cut on. In every layer the cotangents of the
    head outputs are stored in `opposite`. In layer 0 nothing is left to do after that.
    """
    layout, rows_ND = chunk.layout, chunk.rows_ND
    target = RowLayout((cut,) * len(chunk.origins), tuple(t + 1 for t in chunk.origins))
    for number, layer in reversed(layers):
        rows_ND = rows_ND.to(layer.attention.key_KTE.device)
        mixed_NHE = layer_derivatives.vjp_to_mixed(layer, rows_ND, layout, precision)
        opposite.store(number, layout, chunk.origins[0], mixed_NHE)
        if number == 0:
            break
        heads = HeadDerivatives(*part_derivatives.attention_vjp(layer.attention, mixed_NHE, layout, layout, target))
        del mixed_NHE
        rows_ND = layer_derivatives.vjp_from_heads(layer, rows_ND, heads, layout, target, precision)
        layout = target
    return Chunk(chunk.origins, layout, rows_ND)


def vjp(
    chunk: Chunk, layers: Layers, precision: Precision, prompt: slice, cut: int, opposite: CutBuffer | None
) -> Chunk:
    """Main derivatives of reverse mode: cotangents of response tokens through the segment, from the cut on.

    prompt: the range of the prompt's positions. cut: without a cut it is equal to prompt.start. opposite: tangents of
    the prompt tokens in front of the cut; None without a cut. After layer 0 the returned chunk has rows only at the
    prompt's positions from the cut on.
    """
    layout, rows_ND, cross_CX = chunk.layout, chunk.rows_ND, chunk.cross_CX
    items = len(chunk.origins)
    front = _equal_ranges(items, prompt.start, cut)
    for number, layer in reversed(layers):
        # Of the input of layer 0 only the prompt's positions are needed.
        stops = tuple(t + 1 for t in chunk.origins) if number > 0 else (prompt.stop,) * items
        target, keys = RowLayout((cut,) * items, stops), RowLayout(front.starts, stops)
        rows_ND = rows_ND.to(layer.attention.key_KTE.device)
        mixed_NHE = layer_derivatives.vjp_to_mixed(layer, rows_ND, layout, precision)
        heads = HeadDerivatives(
            *part_derivatives.attention_vjp(layer.attention, mixed_NHE, layout, layout.intersect(target), keys)
        )
        del mixed_NHE
        if opposite is not None:
            in_front = (_by_item(_move_heads(x, keys, front), front) for x in heads[1:])
            cross_CX = _accumulate(cross_CX, opposite.multiply(number, *in_front))
            heads = HeadDerivatives(heads.query_NHE, *(_move_heads(x, keys, target) for x in heads[1:]))
        rows_ND = layer_derivatives.vjp_from_heads(layer, rows_ND, heads, layout, target, precision)
        layout = target
    return Chunk(chunk.origins, layout, rows_ND, cross_CX)


def jvp_to_cut(
    chunk: Chunk, layers: Layers, precision: Precision, cut: int, last_layer: int, opposite: CutBuffer
) -> Chunk:
    """Opposite derivatives of reverse mode: tangents of prompt tokens in front of the cut, at positions before the cut.

    In every layer the tangents of keys and values are stored in `opposite`. last_layer: the number of the model's last
    layer, in which nothing is left to do after that.
    """
    layout, rows_ND = chunk.layout, chunk.rows_ND
    target = RowLayout(chunk.origins, (cut,) * len(chunk.origins))
    for number, layer in layers:
        rows_ND = rows_ND.to(layer.attention.key_KTE.device)
        queries = layout if number < last_layer else replace(layout, stops=layout.starts)
        heads = layer_derivatives.jvp_to_heads(layer, rows_ND, layout, queries, precision)
        opposite.store(number, layout, chunk.origins[0], *heads[1:])
        if number == last_layer:
            break
        mixed_NO = part_derivatives.attention_jvp(layer.attention, *heads, queries, layout, target)
        del heads
        rows_ND = move_rows(rows_ND, layout, target)
        rows_ND = layer_derivatives.jvp_from_mixed(layer, rows_ND, mixed_NO, target, precision)
        layout = target
        del mixed_NO
        rows_ND = layer_derivatives.jvp_feed_forward(layer, rows_ND, layout, precision)
    return Chunk(chunk.origins, layout, rows_ND)


def _equal_ranges(items: int, start: int, stop: int) -> RowLayout:
    """A layout of so many items, which all have the positions `start` to `stop` - 1."""
    return RowLayout((start,) * items, (stop,) * items)


def _by_item(rows: Tensor, layout: RowLayout) -> Tensor:
    """[items, positions, ...] from rows [N, ...] of a layout whose items all have the same positions."""
    by_item: Tensor = rows[: layout.offsets[-1]].unflatten(0, (len(layout.starts), -1))
    return by_item


def _move_heads(x_NKE: Tensor, source: RowLayout, target: RowLayout) -> Tensor:
    """`move_rows` for rows x_NKE that are split into heads."""
    moved_NKE: Tensor = move_rows(x_NKE.flatten(1), source, target).unflatten(1, x_NKE.shape[1:])
    return moved_NKE


def _accumulate(cross_CX: Tensor | None, more_CX: Tensor) -> Tensor:
    """cross_CX with more_CX added to it in place; more_CX itself where cross_CX is None."""
    return more_CX if cross_CX is None else cross_CX.add_(more_CX.to(cross_CX.device))
