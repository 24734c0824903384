"""Many derivatives as rows of one matrix. Each is zero outside its stretch of positions; those rows are left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from shiftbench.engine.product import STEP


@dataclass(frozen=True)
class Stretches:
    """Item i has a row for each of the positions starts[i] to stops[i] - 1; the items stand one behind the other.

    Behind the last come rows of nobody's, to a multiple of STEP. What is in them is finite, and goes nowhere.
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The first row of each item, and the number of their rows."""
        return tuple(accumulate((b - a for a, b in zip(self.starts, self.stops, strict=True)), initial=0))

    @cached_property
    def rows(self) -> int:
        """The number of rows, nobody's included."""
        return -(-self.offsets[-1] // STEP) * STEP

    @cached_property
    def position_N(self) -> Tensor:
        """int64: the position of each row; of nobody's, 0."""
        own = [torch.arange(a, b) for a, b in zip(self.starts, self.stops, strict=True)]
        return torch.cat([*own, torch.zeros(self.rows - self.offsets[-1], dtype=torch.int64)])

    def position_on(self, device: torch.device) -> Tensor:
        """position_N on a device; kept there, because every layer asks."""
        if device not in self._positions:
            self._positions[device] = self.position_N.to(device)
        return self._positions[device]

    @cached_property
    def _positions(self) -> dict[torch.device, Tensor]:
        return {}

    @cached_property
    def table(self) -> Tensor:
        """int64 [3, items]: starts, stops, offsets."""
        return torch.tensor([self.starts, self.stops, self.offsets[:-1]], dtype=torch.int64)

    def of(self, item: int, first: int, last: int) -> slice:
        """The rows of an item for the positions first to last - 1, which it must have."""
        begin = self.offsets[item] - self.starts[item]
        return slice(begin + first, begin + last)

    def empty(self, like: Tensor, *width: int) -> Tensor:
        """A tensor [rows, *width], to be filled in where an item has rows."""
        out = like.new_empty(self.rows, *width)
        out[self.offsets[-1] :] = 0
        return out

    def filled(self, rows_ND: Tensor) -> Tensor:
        """These rows, one for each that an item has, and nobody's behind them."""
        out = self.empty(rows_ND, *rows_ND.shape[1:])
        out[: len(rows_ND)] = rows_ND
        return out

    def common(self, other: Stretches) -> Stretches:
        """The positions that both have; an item that has none gets an empty stretch."""
        if self == other:
            return self
        stops = tuple(map(min, self.stops, other.stops))
        return Stretches(tuple(map(min, map(max, self.starts, other.starts), stops)), stops)


def moved(rows_ND: Tensor, source: Stretches, target: Stretches) -> Tensor:
    """The same derivatives on other stretches: zero where the source had no row, dropped where the target has none."""
    if source == target:
        return rows_ND
    from_N, to_N = _common_rows(source, target, rows_ND.device)
    return rows_ND.new_zeros(target.rows, rows_ND.shape[1]).index_copy_(0, to_N, rows_ND.index_select(0, from_N))


@lru_cache(maxsize=64)  # a layer moves several tensors the same way
def _common_rows(source: Stretches, target: Stretches, device: torch.device) -> tuple[Tensor, Tensor]:
    """The rows of both at the positions that both have."""
    both = source.common(target)

    def rows(of: Stretches) -> Tensor:
        own = [of.of(i, *ends) for i, ends in enumerate(zip(both.starts, both.stops, strict=True))]
        return torch.cat([torch.arange(part.start, part.stop) for part in own]).to(device)

    return rows(source), rows(target)
