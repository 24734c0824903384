"""Controls: they give null models, whose weights changed without any instruction tuning (docs/controls.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from shiftbench.models import Model, ModelSource
from shiftbench.models.weights import Weights


class Control(ABC):
    """Gives models that stand in the tuned model's place, on the pair's own prompts and responses.

    kind: the control's name in tables, sentences and scores.json. draws: how many null models it gives.
    """

    kind: str
    draws: int

    @abstractmethod
    def check(self, tuned: ModelSource) -> None:
        """Raise InputError, before weights are read, where no null model could be made."""

    def check_models(self, base: Model, tuned: Model) -> None:  # noqa: B027
        """Raise InputError where no null model can be made of the loaded models."""

    @abstractmethod
    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """The null models, one after the other; each may reuse the memory of the one before it."""

    @abstractmethod
    def weights(self, base: Weights, tuned: Weights) -> Iterator[Weights]:
        """The null models' weights, drawn tensor by tensor as they are read, without any model."""
