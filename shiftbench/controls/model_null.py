"""A null model that the user gives: base trained on as much plain text, for example (docs/controls.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shiftbench import models
from shiftbench.contracts.control import Control
from shiftbench.models import Model, ModelSource
from shiftbench.models.weights import FileWeights, Weights


@dataclass(frozen=True)
class ModelNull(Control):
    """One model that stands in the tuned model's place.

    model: how it is loaded (conf/model), called with its path. path: hub id or folder.
    """

    model: Callable[..., ModelSource]
    path: str
    kind: str = field(default="continued", init=False)
    draws: int = field(default=1, init=False)

    def check(self, tuned: ModelSource) -> None:
        """Raise InputError where the model cannot be loaded."""
        models.check(self._source())

    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """That model, loaded."""
        yield models.load(self._source())

    def weights(self, base: Weights, tuned: Weights) -> Iterator[Weights]:
        """That model's weights, from its files."""
        yield FileWeights(self._source())

    def _source(self) -> ModelSource:
        return self.model(path=self.path)
