"""Where tangents of the positions in front meet cotangents of the positions behind (docs/mathematics.md).

Positions behind a border know of those in front by keys and values alone, in every layer. So what a prompt token in
front does to a response token behind is a sum over layers, of what its tangent changes there and what the cotangent
makes of it; neither has to cross. Derivatives of one kind, the few, leave their rows in every layer; those of the
other kind, the many, then meet them on their way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import Lock

import torch
from torch import Tensor

from shiftbench.engine.product import STEP
from shiftbench.engine.rows import Stretches


@dataclass(frozen=True)
class Block:
    """Rows of some items at some positions, and which rows of a buffer they are, items outside, positions inside."""

    items: slice
    positions: slice
    rows: slice


@dataclass(frozen=True)
class Layout:
    """A buffer for the rows of few items. They begin or end together, so that a block of positions has most of them."""

    few: Stretches

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All rows, STEP positions to a block; an item that lacks some of its positions is zero there."""
        found: list[Block] = []
        rows, end = 0, max(self.few.stops)
        for first in range(min(self.few.starts), end, STEP):
            last = min(first + STEP, end)
            ends = zip(self.few.starts, self.few.stops, strict=True)
            items = [i for i, (start, stop) in enumerate(ends) if start < last and stop > first]
            block = slice(items[0], items[-1] + 1)
            count = (block.stop - block.start) * (last - first)
            found.append(Block(block, slice(first, last), slice(rows, rows + count)))
            rows += count
        return tuple(found)

    @property
    def rows(self) -> int:
        """Of the buffer."""
        return self.blocks[-1].rows.stop


@lru_cache(maxsize=64)  # the same in all layers
def _place(layout: Layout, at: Stretches, first: int, device: torch.device) -> Tensor:
    """int64: the buffer's row for each row of `at`, whose items are those of the few from the first on."""
    found = []
    for item, (start, stop) in enumerate(zip(at.starts, at.stops, strict=True), start=first):
        for block in layout.blocks:
            here, length = block.positions, block.positions.stop - block.positions.start
            begin = block.rows.start + (item - block.items.start) * length - here.start
            found.append(begin + torch.arange(max(start, here.start), max(min(stop, here.stop), start, here.start)))
    return torch.cat(found).to(device)


class Border:
    """What the few leave, by layer. Several threads may leave and meet at a time.

    They are born at consecutive positions, the first where their rows begin.
    """

    def __init__(self, few: Stretches) -> None:
        self.few = few
        self._layout, self._begin = Layout(few), min(few.starts)
        self._left: dict[int, tuple[Tensor, ...]] = {}
        self._lock = Lock()

    def leave(self, layer: int, at: Stretches, born: int, *rows: Tensor) -> None:
        """Rows [N, ...] of the few from the one born there on, at their positions; of one kind, or of several."""
        with self._lock:
            if layer not in self._left:
                self._left[layer] = tuple(x.new_zeros(self._layout.rows, x[0].numel()) for x in rows)
        place_N = _place(self._layout, at, born - self._begin, rows[0].device)
        for buffer, x in zip(self._left[layer], rows, strict=True):
            buffer.index_copy_(0, place_N, x[: len(place_N)].flatten(1))

    def meet(self, layer: int, *rows: Tensor) -> Tensor:
        """met_CB: products of C items' rows with each of the few's, summed over positions. float32 at least.

        rows: [C, positions, ...], as many kinds as were left, on all positions that the few have rows on.
        """
        dtype = torch.promote_types(rows[0].dtype, torch.float32)
        met_CB = rows[0].new_zeros(len(rows[0]), len(self.few.starts), dtype=dtype)
        for buffer, x in zip(self._left[layer], rows, strict=True):
            for block in self._layout.blocks:
                here = slice(block.positions.start - self._begin, block.positions.stop - self._begin)
                few = buffer[block.rows].view(block.items.stop - block.items.start, -1)
                met_CB[:, block.items].addmm_(x[:, here].flatten(1).to(dtype), few.T.to(dtype))
        return met_CB
