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
    """A control with one null model: the model at `path`, which is a hub id or a folder.

    model: called with `path`, it returns the model's source; its other options are those of conf/model. kind and draws
    are fixed: the control is named "continued" and has one draw.
    """

    model: Callable[..., ModelSource]
    path: str
    kind: str = field(default="continued", init=False)
    draws: int = field(default=1, init=False)

    def check(self, tuned: ModelSource) -> None:
        """Raise InputError where the null model cannot be loaded, as far as models.check finds before reading weights.

        tuned is not used.
        """
        models.check(self._source())

    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """Yields one model: the model at `path`, loaded. base and tuned are not used."""
        yield models.load(self._source())

    def weights(self, base: Weights, tuned: Weights) -> Iterator[Weights]:
        """Yields one set of weights: those of the model at `path`, read from its files. base and tuned are not used."""
        yield FileWeights(self._source())

    def _source(self) -> ModelSource:
        return self.model(path=self.path)
