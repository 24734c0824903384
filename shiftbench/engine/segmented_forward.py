"""A forward pass that has the forward cache of one segment (consecutive layers) in memory at a time."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from shiftbench.engine.forward import forward
from shiftbench.engine.forward_cache import LayerCache
from shiftbench.models.block import Block, Transformer

Layers = list[tuple[int, LayerCache]]  # (number of the layer in the model, its forward cache), from the lower layers up


class SegmentedForward:
    """Forward caches of the model's layers, one segment of layers at a time, computed when they are needed.

    It keeps the input of every segment that a pass has reached, and the forward cache of the segment that was used
    last. The cache of another segment is computed, or computed again, from that segment's input.

    x_TD: the first layer's input. segments: lists of consecutive blocks; together they are all blocks of the model, in
    order.
    """

    def __init__(self, model: Transformer, x_TD: Tensor, segments: Sequence[Sequence[Block]]) -> None:
        self._model, self._segments = model, segments
        self._inputs = [x_TD]  # the input of each segment reached so far; behind them the last layer's output
        self._current: tuple[int, Layers] | None = None

    def __len__(self) -> int:
        """The number of segments."""
        return len(self._segments)

    def layers(self, segment: int) -> Layers:
        """The layers of a segment, each with its number in the model and its forward cache. segment: counted from 0.

        The caller must first drop what this method returned for any other segment: the memory is planned for one
        segment.
        """
        if self._current is None or self._current[0] != segment:
            self._current = None
            for before in range(len(self._inputs) - 1, segment):
                self._inputs.append(forward(self._model, self._inputs[before], self._segments[before], keep=False)[1])
            caches, x_TD = forward(self._model, self._inputs[segment], self._segments[segment])
            if len(self._inputs) == segment + 1:
                self._inputs.append(x_TD)
            first = sum(len(each) for each in self._segments[:segment])
            self._current = segment, list(enumerate(caches, start=first))
        return self._current[1]

    def output(self) -> Tensor:
        """output_TD of the last layer. Where it is not known yet, the last segment's forward cache is computed too."""
        if len(self._inputs) <= len(self._segments):
            self.layers(len(self._segments) - 1)
        return self._inputs[-1]
