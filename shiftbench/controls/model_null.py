"""A null model that the user names, for example base trained on as much plain text (docs/controls.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shiftbench import models
from shiftbench.contracts.control import Control
from shiftbench.models import Model, ModelSource
from shiftbench.models.weights import FileWeights, Weights


@dataclass(frozen=True)
class ModelNull(Control):
    """One null model: the model at `path`, a hub id or a folder.

    model: makes the model's source from `path`, with the options of conf/model.
    """

    model: Callable[..., ModelSource]
    path: str
    kind: str = field(default="continued", init=False)
    draws: int = field(default=1, init=False)

    def check(self, tuned: ModelSource) -> None:
        """Raise InputError where the model cannot be loaded."""
        models.check(self._source())

    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """Yields that model, loaded."""
        yield models.load(self._source())

    def weights(self, base: Weights, tuned: Weights) -> Iterator[Weights]:
        """Yields that model's weights, read from its files."""
        yield FileWeights(self._source())

    def _source(self) -> ModelSource:
        return self.model(path=self.path)
