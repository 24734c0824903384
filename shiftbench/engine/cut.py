"""The meet-in-the-middle cut: where tangents of the positions in front meet cotangents of the positions behind.

The cut is a position. The positions before it are in front of the cut; it and all later ones are behind the cut.
schedule.count_opposite says how many opposite derivatives there are, and importance.py derives the position from that
number. In every layer a position behind the cut depends on the positions in front of it only
through their keys and values. So the importance of a prompt token in front of the cut for a response token predicted
behind it is a sum over layers of inner products between rows of the prompt token's tangent and rows of the response
token's cotangent. In forward mode these are the rows of head outputs behind the cut, in reverse mode the rows of keys
and values in front of it. Neither kind of derivative has to pass the cut. docs/mathematics.md, section "How it is
computed", derives the sum.

The opposite derivatives run first and store their rows of every layer here. The main derivatives are multiplied with
those rows as they pass the same layers. Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from threading import Lock

import torch
from torch import Tensor

from shiftbench.engine.product import STEP
from shiftbench.engine.row_layout import RowLayout


@dataclass(frozen=True)
class Tile:
    """The rows of a buffer that belong to a range of items (opposite derivatives) at a range of positions of the text.

    rows: the range of these rows in the buffer. In a tile all rows of an item follow each other, in the order of their
    positions, and the items are in their order too.
    """

    items: slice
    positions: slice
    rows: slice


@dataclass(frozen=True)
class BufferLayout:
    """Which row of a buffer belongs to which opposite derivative and position.

    opposite: the layout of all opposite derivatives. All of them begin at one position, or all of them end at one
    position.
    """

    opposite: RowLayout

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """Tiles of STEP positions each (the last may be shorter), from the first to the last position of any item.

        A tile has the items from the first to the last one with a row in it. Where one of them has no row at a position
        of the tile, the buffer has a row of zeros.
        """
        found: list[Tile] = []
        rows, end = 0, max(self.opposite.stops)
        for first in range(min(self.opposite.starts), end, STEP):
            last = min(first + STEP, end)
            ends = zip(self.opposite.starts, self.opposite.stops, strict=True)
            present = [i for i, (start, stop) in enumerate(ends) if start < last and stop > first]
            items = slice(present[0], present[-1] + 1)
            count = (items.stop - items.start) * (last - first)
            found.append(Tile(items, slice(first, last), slice(rows, rows + count)))
            rows += count
        return tuple(found)

    @property
    def rows(self) -> int:
        """The number of rows of the buffer."""
        last: int = self.tiles[-1].rows.stop
        return last


@lru_cache(maxsize=64)  # a chunk's first layer has fewer rows; all later layers ask for the same ones
def _buffer_rows(buffer: BufferLayout, layout: RowLayout, first_item: int, device: torch.device) -> Tensor:
    """int64: for each row of `layout`, without its padding rows, the row of the buffer that stores it.

    first_item: the number that item 0 of `layout` has in the buffer.
    """
    found = []
    for item, (start, stop) in enumerate(zip(layout.starts, layout.stops, strict=True), start=first_item):
        for tile in buffer.tiles:
            here, length = tile.positions, tile.positions.stop - tile.positions.start
            begin = tile.rows.start + (item - tile.items.start) * length - here.start
            found.append(begin + torch.arange(max(start, here.start), max(min(stop, here.stop), start, here.start)))
    return torch.cat(found).to(device)


class CutBuffer:
    """The rows that the opposite derivatives store at the cut, layer by layer.

    Several threads may call `store` at once, for different derivatives, and several may call `multiply` at once.
    `multiply` needs the rows of all opposite derivatives for its layer, so it may not be called before they are stored.
    opposite: the layout of all opposite derivatives. Their origins (Chunk.origins in schedule.py) are consecutive
    positions, and the first origin is the first position at which any of them has a row.
    """

    def __init__(self, opposite: RowLayout) -> None:
        self.opposite = opposite
        self._layout, self._begin = BufferLayout(opposite), min(opposite.starts)
        self._stored: dict[int, tuple[Tensor, ...]] = {}
        self._lock = Lock()

    def store(self, layer: int, layout: RowLayout, first_origin: int, *rows: Tensor) -> None:
        """Store the rows of some opposite derivatives, whose origins are consecutive, for one layer.

        rows: one tensor [N, ...], or several that all have this layout; the number of tensors is the same in every
        call. layout: which derivative and position each row has; padding rows are not stored. first_origin: the origin
        of the layout's first item.
        """
        with self._lock:
            if layer not in self._stored:
                self._stored[layer] = tuple(x.new_zeros(self._layout.rows, x[0].numel()) for x in rows)
        place_N = _buffer_rows(self._layout, layout, first_origin - self._begin, rows[0].device)
        for buffer, x in zip(self._stored[layer], rows, strict=True):
            buffer.index_copy_(0, place_N, x[: len(place_N)].flatten(1))

    def multiply(self, layer: int, *rows: Tensor) -> Tensor:
        """cross_CX: the inner product of each of C derivatives with each opposite derivative, from one layer's rows.

        rows: tensors [C, positions, ...], one for each tensor that was stored. Their positions are all those at which
        any opposite derivative has a row. The inner products run over positions and all further dimensions, and those
        of the several tensors are added. The result's dtype is that of the rows, but float32 at least.
        """
        dtype = torch.promote_types(rows[0].dtype, torch.float32)
        cross_CX = rows[0].new_zeros(len(rows[0]), len(self.opposite.starts), dtype=dtype)
        for buffer, x in zip(self._stored[layer], rows, strict=True):
            for tile in self._layout.tiles:
                here = slice(tile.positions.start - self._begin, tile.positions.stop - self._begin)
                stored = buffer[tile.rows].view(tile.items.stop - tile.items.start, -1)
                cross_CX[:, tile.items].addmm_(x[:, here].flatten(1).to(dtype), stored.T.to(dtype))
        return cross_CX
