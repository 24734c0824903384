"""Ragged rows of many items as one block, for a device that would rather multiply zeros than start a kernel an item.

Rows stand in a block by their position, and what an item lacks is zero there. Positions come before items in what is
multiplied with queries, so that every product of attention's derivatives is batched over key heads alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from shiftbench.engine.rows import Stretches


@dataclass(frozen=True)
class Places:
    """Consecutive rows, and where each stands in a block [count, ...]."""

    rows: slice
    place_N: Tensor
    count: int

    def spread(self, rows: Tensor) -> Tensor:
        """The block of these rows, zero where there is none."""
        return rows.new_zeros(self.count, *rows.shape[1:]).index_copy_(0, self.place_N, rows[self.rows])

    def gather(self, block: Tensor, rows: Tensor) -> None:
        """The block's rows back to where they came from; what else is in it is dropped."""
        rows[self.rows] = block.index_select(0, self.place_N)


@dataclass(frozen=True)
class Group:
    """Items whose attention is computed together. rows: positions that any mixes for; span: those before their end.

    query, mixed: places in [rows, items]; value: in [span, items]; key: in [items, span].
    """

    items: int
    rows: slice
    span: int
    query: Places
    mixed: Places
    key: Places
    value: Places


@lru_cache(maxsize=64)  # the same for all layers of a chunk, and for prompts of one length
def groups(
    queries: Stretches, keys: Stretches, mixed: Stretches, scores: int, device: torch.device
) -> tuple[Group, ...]:
    """All items, in groups of so many scores (pairs of positions, one head's) or of one item."""
    extent = (max(mixed.stops) - min(mixed.starts)) * max(*mixed.stops, *keys.stops)
    step = max(1, scores // max(1, extent))
    count = len(mixed.starts)
    return tuple(
        _group(queries, keys, mixed, range(i, min(i + step, count)), device)
        for i in range(0, count, step)
        if mixed.offsets[min(i + step, count)] > mixed.offsets[i]
    )


def _group(queries: Stretches, keys: Stretches, mixed: Stretches, items: range, device: torch.device) -> Group:
    at = slice(items.start, items.stop)
    first, last = min(mixed.starts[at]), max(mixed.stops[at])
    span = max(*mixed.stops[at], *keys.stops[at])
    count, rows = len(items), last - first
    by_position, by_item = (1, count), (span, 1)  # places from one item to the next, from one position to the next
    return Group(
        count,
        slice(first, last),
        span,
        _places(queries, items, first, by_position, rows * count, device),
        _places(mixed, items, first, by_position, rows * count, device),
        _places(keys, items, 0, by_item, count * span, device),
        _places(keys, items, 0, by_position, span * count, device),
    )


def _places(
    stretches: Stretches, items: range, first: int, steps: Sequence[int], count: int, device: torch.device
) -> Places:
    place_N = [
        item * steps[0] + (torch.arange(stretches.starts[i], stretches.stops[i]) - first) * steps[1]
        for item, i in enumerate(items)
    ]
    rows = slice(stretches.offsets[items.start], stretches.offsets[items.stop])
    return Places(rows, torch.cat(place_N).to(device), count)
