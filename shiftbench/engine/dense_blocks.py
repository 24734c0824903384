"""Rows of many items as one dense block, for attention's derivatives where torch and not the core computes them.

Items have rows at different positions. In a block every item has a row at every position, zero where the item has none.
A GPU multiplies those zeros faster than it starts one kernel for each item. Positions come before items in the blocks
that are multiplied with queries, so that every product of attention's derivatives is batched over key heads alone.
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
    """Consecutive rows of a matrix, and the place of each in a block [count, ...].

    rows: the rows. place_N: int64, the place of each of these rows. count: the number of places.
    """

    rows: slice
    place_N: Tensor
    count: int

    def scatter(self, rows: Tensor) -> Tensor:
        """The block [count, ...] of these rows of the matrix `rows`; zero at all other places."""
        return rows.new_zeros(self.count, *rows.shape[1:]).index_copy_(0, self.place_N, rows[self.rows])

    def gather(self, block: Tensor, rows: Tensor) -> None:
        """Write the block's places back to these rows of the matrix `rows`; other places are dropped."""
        rows[self.rows] = block.index_select(0, self.place_N)


@dataclass(frozen=True)
class ItemGroup:
    """Items whose attention is computed together.

    items: how many. positions: from the first to the last position at which any of them has a query or a mixed row.
    span: the number of positions from 0 to the last one that any of them has a row at.
    query, mixed: index into a block [positions, items]; value: into [span, items]; key: into [items, span].
    """

    items: int
    positions: slice
    span: int
    query: BlockIndex
    mixed: BlockIndex
    key: BlockIndex
    value: BlockIndex


@lru_cache(maxsize=64)  # the same for all layers of a chunk, and for prompts of one length
def group_items(
    queries: RowLayout, keys: RowLayout, mixed: RowLayout, scores: int, device: torch.device
) -> tuple[ItemGroup, ...]:
    """All items in groups of consecutive ones, each of at most `scores` attention scores (of one head) or of one item.

    A group without any mixed row is left out.
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
    # Distances in the block between neighbouring items and between neighbouring positions.
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
    """first: the block's first position. strides: between items, between positions."""
    place_N = [
        item * strides[0] + (torch.arange(layout.starts[i], layout.stops[i]) - first) * strides[1]
        for item, i in enumerate(items)
    ]
    rows = slice(layout.offsets[items.start], layout.offsets[items.stop])
    return BlockIndex(rows, torch.cat(place_N).to(device), count)
