"""Control: supplies null models, whose weights differ from base's without instruction tuning (docs/controls.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from shiftbench.models import Model, ModelSource
from shiftbench.models.weights import Weights


class Control(ABC):
    """Supplies null models. Findings are scored on them in place of the tuned model too, on the same responses.

    Checks (Finding.is_check) are not.
    kind: the control's name in tables, sentences and scores.json. draws: the number of null models.
    """

    kind: str
    draws: int

    @abstractmethod
    def check(self, tuned: ModelSource) -> None:
        """Raise InputError where no null model can be made, as far as is known before weights are read.

        tuned: the source of the tuned model.
        """

    def check_models(self, base: Model, tuned: Model) -> None:  # noqa: B027
        """Raise InputError where no null model can be made from these loaded models; by default none is refused."""

    @abstractmethod
    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """Yields the null models, `draws` of them, loaded.

        Each may overwrite the weights of the null model before it, so finish with one before taking the next.
        """

    @abstractmethod
    def weights(self, base: Weights, tuned: Weights) -> Iterator[Weights]:
        """Yields the weights of the null models, `draws` of them, each tensor read or drawn when it is asked for.

        For findings that read weights tensor by tensor: no model is loaded.
        """
