"""The forward pass, of which memory holds one run of layers at a time."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from shiftbench.engine.forward import forward
from shiftbench.engine.kept import KeptBlock
from shiftbench.models.block import Block, Transformer

Layers = list[tuple[int, KeptBlock]]  # each with its number


class Passes:
    """Makes what is asked for, from what it has: the input of every run that was passed, and the last run kept."""

    def __init__(self, model: Transformer, x_TD: Tensor, runs: Sequence[Sequence[Block]]) -> None:
        self._model, self._runs = model, runs
        self._entering = [x_TD]
        self._held: tuple[int, Layers] | None = None

    def __len__(self) -> int:
        return len(self._runs)

    def of(self, run: int) -> Layers:
        """What is kept of a run of layers. Hold no other one meanwhile: memory is for one."""
        if self._held is None or self._held[0] != run:
            self._held = None
            for before in range(len(self._entering) - 1, run):
                self._entering.append(forward(self._model, self._entering[before], self._runs[before], keep=False)[1])
            kept, x_TD = forward(self._model, self._entering[run], self._runs[run])
            if len(self._entering) == run + 1:
                self._entering.append(x_TD)
            first = sum(len(each) for each in self._runs[:run])
            self._held = run, list(enumerate(kept, start=first))
        return self._held[1]

    def top(self) -> Tensor:
        """The last layer's output_TD; its run is kept on the way."""
        if len(self._entering) <= len(self._runs):
            self.of(len(self._runs) - 1)
        return self._entering[-1]
