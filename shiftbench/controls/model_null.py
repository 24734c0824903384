"""A null model that the user names, for example base trained further on plain text (docs/controls.md)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from shiftbench import models
from shiftbench.contracts.control import Control
from shiftbench.models import Model, ModelSource
from shiftbench.models.weights import FileWeights, Weights


@dataclass(frozen=True)
class ModelNull(Control):
    """A control with one null model: the model at `path`, which is a hub id or a folder.

    model: called as model(path=path), it returns the model's source; its options (conf/model) are already bound. kind
    and draws are fixed: the control is named "continued" and has one draw.
    """

    model: Callable[..., ModelSource]
    path: str
    kind: str = field(default="continued", init=False)
    draws: int = field(default=1, init=False)

    def check(self, tuned: ModelSource) -> None:
        """Raise InputError where the null model cannot be loaded, as far as models.check finds before reading weights.

        tuned is not used.
        """
        models.check(self._source)

    def digest(self, base: Model, tuned: Model, draw: int) -> str:
        """sha256 (hex) of the weights of the model at `path`, which is loaded. base, tuned and draw are not used."""
        return self._loaded.weights_digest

    def models(self, base: Model, tuned: Model) -> Callable[[int], Model]:
        """A function that returns the model at `path` for every draw, loaded once. base and tuned are not used."""
        return lambda draw: self._loaded

    def views(self, base: Model, tuned: Model, draw: int) -> Model:
        """The model at `path`, loaded once. base, tuned and draw are not used."""
        return self._loaded

    def weights(self, base: Weights, tuned: Weights, draw: int) -> Weights:
        """The weights of the model at `path`, read from its files. base, tuned and draw are not used."""
        return FileWeights(self._source)

    @cached_property
    def _loaded(self) -> Model:
        return models.load(self._source)

    @cached_property
    def _source(self) -> ModelSource:
        return self.model(path=self.path)
