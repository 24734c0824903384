"""Rows of many items as one dense block, for attention's derivatives where torch and not the core computes them.

Items (derivatives) have rows at different positions. In a block every item has a row at every position of a range; it
is zero where the item has no row. A GPU multiplies those zeros faster than it starts one kernel for each item. In the
blocks that are multiplied with queries, the dimension of positions stands before that of items, so that every product
of attention's derivatives is batched over key heads alone.
Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from shiftbench.engine.row_layout import RowLayout


@dataclass(frozen=True)
class BlockIndex:
    """Consecutive rows of a matrix, and the place of each of them in a block [count, ...].

    rows: the range of these rows. place_N: int64, the index of each of these rows in the block. count: the number of
    places in the block.
    """

    rows: slice
    place_N: Tensor
    count: int

    def scatter(self, rows: Tensor) -> Tensor:
        """A new block [count, ...] with these rows of the matrix `rows`; it is zero at all other places."""
        return rows.new_zeros(self.count, *rows.shape[1:]).index_copy_(0, self.place_N, rows[self.rows])

    def gather(self, block: Tensor, rows: Tensor) -> None:
        """Write the block's entries at place_N into these rows of the matrix `rows`; other places are not used."""
        rows[self.rows] = block.index_select(0, self.place_N)


@dataclass(frozen=True)
class ItemGroup:
    """Items whose attention is computed together.

    items: the number of items. positions: the range from the first to the last position at which any item has a mixed
    row; query rows lie in it too. span: the number of positions from 0 to the last one at which any item has a row.
    query, mixed: places of the query rows and of the mixed rows in a block [positions, items]. key: places of the key
    rows in a block [items, span]. value: places of the value rows in a block [span, items]. The two dimensions of a
    block are flattened into one.
    """

    items: int
    positions: slice
    span: int
    query: BlockIndex
    mixed: BlockIndex
    key: BlockIndex
    value: BlockIndex


@lru_cache(maxsize=64)  # groups are the same for all layers of a chunk, and for prompts of one length
def group_items(
    queries: RowLayout, keys: RowLayout, mixed: RowLayout, scores: int, device: torch.device
) -> tuple[ItemGroup, ...]:
    """All items in groups of consecutive items.

    queries, keys, mixed: the layouts of the query rows, of the key and value rows, and of the mixed rows. scores: the
    most attention scores of one head that a group may have; a group has one item at least. A group without any mixed
    row is left out.
    """
    extent = (max(mixed.stops) - min(mixed.starts)) * max(*mixed.stops, *keys.stops)
    step = max(1, scores // max(1, extent))
    count = len(mixed.starts)
    return tuple(
        _group(queries, keys, mixed, range(i, min(i + step, count)), device)
        for i in range(0, count, step)
        if mixed.offsets[min(i + step, count)] > mixed.offsets[i]
    )


def _group(queries: RowLayout, keys: RowLayout, mixed: RowLayout, items: range, device: torch.device) -> ItemGroup:
    at = slice(items.start, items.stop)
    first, last = min(mixed.starts[at]), max(mixed.stops[at])
    span = max(*mixed.stops[at], *keys.stops[at])
    count, positions = len(items), last - first
    # How far apart two neighbouring items, and two neighbouring positions, are in each kind of block.
    by_position, by_item = (1, count), (span, 1)
    return ItemGroup(
        count,
        slice(first, last),
        span,
        _index(queries, items, first, by_position, positions * count, device),
        _index(mixed, items, first, by_position, positions * count, device),
        _index(keys, items, 0, by_item, count * span, device),
        _index(keys, items, 0, by_position, span * count, device),
    )


def _index(
    layout: RowLayout, items: range, first: int, strides: Sequence[int], count: int, device: torch.device
) -> BlockIndex:
    """The rows of `items` in `layout`, and their places in a block that has `count` places.

    first: the position to which the block's first place belongs. strides: how far apart two neighbouring items, and two
    neighbouring positions, are in the block.
    """
    place_N = [
        item * strides[0] + (torch.arange(layout.starts[i], layout.stops[i]) - first) * strides[1]
        for item, i in enumerate(items)
    ]
    rows = slice(layout.offsets[items.start], layout.offsets[items.stop])
    return BlockIndex(rows, torch.cat(place_N).to(device), count)
