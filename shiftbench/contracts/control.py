"""Control: supplies null models, whose change from base is no instruction tuning (docs/controls.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from shiftbench.models import Model, ModelSource
from shiftbench.models.weights import Weights


class Control(ABC):
    """Supplies null models. Each finding is scored on them too, in place of the tuned model, on the same responses.

    kind: the control's name in tables, sentences and scores.json. draws: the number of null models.
    """

    kind: str
    draws: int

    @abstractmethod
    def check(self, tuned: ModelSource) -> None:
        """Raise InputError where no null model can be made, as far as is known before weights are read."""

    def check_models(self, base: Model, tuned: Model) -> None:  # noqa: B027
        """Raise InputError where no null model can be made from these loaded models; default: never."""

    @abstractmethod
    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """Yields the null models. Each may reuse the memory of the one before it, so use one before taking the next."""

    @abstractmethod
    def weights(self, base: Weights, tuned: Weights) -> Iterator[Weights]:
        """Yields the null models' weights, each tensor drawn when it is read. No model is loaded."""
