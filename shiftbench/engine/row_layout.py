"""Which row of a matrix belongs to which derivative and which position.

Many derivatives are rows of one matrix [N, ...], so that one product with a weight serves them all. A derivative is
zero outside a range of positions: a tangent before its own token, and a cotangent behind the position that predicts its
token. The rows of these positions are left out. Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from shiftbench.engine.product import STEP


@dataclass(frozen=True)
class RowLayout:
    """Which rows the items (derivatives) have: item i has one for each of the positions starts[i] to stops[i] - 1.

    The rows of an item are in the order of positions, and the rows of item i + 1 follow those of item i. Padding rows
    behind the last item make the number of rows a multiple of STEP. Their contents are finite and unused.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The first row of each item, and as last entry the number of rows without padding."""
        return tuple(accumulate((b - a for a, b in zip(self.starts, self.stops, strict=True)), initial=0))

    @cached_property
    def rows(self) -> int:
        """The number of rows, padding included."""
        return -(-self.offsets[-1] // STEP) * STEP

    @cached_property
    def position_N(self) -> Tensor:
        """int64 [rows]: the position of each row; 0 for padding rows."""
        own = [torch.arange(a, b) for a, b in zip(self.starts, self.stops, strict=True)]
        return torch.cat([*own, torch.zeros(self.rows - self.offsets[-1], dtype=torch.int64)])

    def position_on(self, device: torch.device) -> Tensor:
        """position_N on a device. A copy is kept for each device, because every layer needs it."""
        if device not in self._positions:
            self._positions[device] = self.position_N.to(device)
        return self._positions[device]

    @cached_property
    def _positions(self) -> dict[torch.device, Tensor]:
        return {}

    @cached_property
    def table(self) -> Tensor:
        """int64 [3, items]: the starts, the stops and the first row of each item, as the compiled core takes them."""
        return torch.tensor([self.starts, self.stops, self.offsets[:-1]], dtype=torch.int64)

    def rows_of(self, item: int, first: int, last: int) -> slice:
        """The rows of an item at the positions first to last - 1, which must be within its range."""
        begin = self.offsets[item] - self.starts[item]
        return slice(begin + first, begin + last)

    def new_rows(self, like: Tensor, *width: int) -> Tensor:
        """A tensor [rows, *width] with the dtype and device of `like`: padding rows are 0, the others uninitialised."""
        out = like.new_empty(self.rows, *width)
        out[self.offsets[-1] :] = 0
        return out

    def pad(self, rows_ND: Tensor) -> Tensor:
        """A copy of the items' rows [offsets[-1], ...] with the padding rows, which are 0, behind them."""
        out = self.new_rows(rows_ND, *rows_ND.shape[1:])
        out[: len(rows_ND)] = rows_ND
        return out

    def intersect(self, other: RowLayout) -> RowLayout:
        """The layout in which each item has the positions that it has in both layouts; these may be none."""
        if self == other:
            return self
        stops = tuple(map(min, self.stops, other.stops))
        return RowLayout(tuple(map(min, map(max, self.starts, other.starts), stops)), stops)


def move_rows(rows_ND: Tensor, source: RowLayout, target: RowLayout) -> Tensor:
    """The rows of rows_ND, which has the layout `source`, in the layout `target`.

    A row that `source` lacks is zero in the result, and a row that `target` lacks is dropped. Returns rows_ND itself
    where the layouts are equal.
    """
    if source == target:
        return rows_ND
    from_N, to_N = _shared_rows(source, target, rows_ND.device)
    return rows_ND.new_zeros(target.rows, rows_ND.shape[1]).index_copy_(0, to_N, rows_ND.index_select(0, from_N))


@lru_cache(maxsize=64)  # a layer moves several tensors between the same two layouts
def _shared_rows(source: RowLayout, target: RowLayout, device: torch.device) -> tuple[Tensor, Tensor]:
    """(row numbers in `source`, row numbers in `target`), int64, of each item and position that both layouts have."""
    both = source.intersect(target)

    def rows(layout: RowLayout) -> Tensor:
        own = [layout.rows_of(i, *ends) for i, ends in enumerate(zip(both.starts, both.stops, strict=True))]
        return torch.cat([torch.arange(part.start, part.stop) for part in own]).to(device)

    return rows(source), rows(target)
