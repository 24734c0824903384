"""Control: supplies null models, whose weights differ from base's without instruction tuning (docs/controls.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from shiftbench.models import Model, ModelSource
from shiftbench.models.weights import Weights


class Control(ABC):
    """Supplies null models. A run scores its findings on the pair, and again with each null model in tuned's place.

    The responses are the same. Findings that check a method (Finding.is_check) are not scored on null models.

    kind: the name of the null models in tables, sentences and verdicts. name: the control in the field "control" of
    scores.json. draws: the number of null models. weights_only: whether only claims that rest on weights alone are
    compared with null models; such a control refuses no pair, and a run where it can draw no null model goes on without
    any. keeps_unchanged: whether every weight that is equal in base and in the tuned model is equal in the null models
    too.
    """

    kind: str
    draws: int
    keeps_unchanged: ClassVar[bool] = False

    @property
    def weights_only(self) -> bool:
        """Whether only claims that rest on weights alone are compared with null models; by default False."""
        return False

    @property
    def name(self) -> str:
        """`kind`, or "weights" where only claims that rest on weights alone are compared with null models."""
        return "weights" if self.weights_only else self.kind

    def for_tuned(self, tuned: ModelSource) -> Control:
        """The control for this tuned model, where its null models depend on the tuned model's source; by default self.

        tuned: the source of the tuned model.
        """
        return self

    @abstractmethod
    def check(self, tuned: ModelSource) -> None:
        """Raise InputError where no null model can be made, as far as is known before weights are read.

        tuned: the source of the tuned model.
        """

    def check_models(self, base: Model, tuned: Model) -> None:  # noqa: B027
        """Raise InputError where no null model can be made from these loaded models; by default none is refused."""

    @abstractmethod
    def digest(self, base: Model, tuned: Model, draw: int) -> str:
        """sha256 (hex) that identifies the weights of the null model of a draw, computed without drawing them.

        draw: the number of the null model, from 0.
        """

    @abstractmethod
    def models(self, base: Model, tuned: Model) -> Callable[[int], Model]:
        """A function that returns the null model of a draw, whole, so that it can be run on prompts.

        Each may overwrite the weights of the null model before it, so finish with one before taking the next.
        """

    @abstractmethod
    def views(self, base: Model, tuned: Model, draw: int) -> Model:
        """The null model of a draw for methods that read weights through Model.views and nowhere else.

        A control that draws weights draws each when it is read, so no further copy of the model is in memory.
        `Model.module` need not be the null model's.
        """

    @abstractmethod
    def weights(self, base: Weights, tuned: Weights, draw: int) -> Weights:
        """The weights of the null model of a draw, each tensor read or drawn when it is asked for.

        For findings that read weights tensor by tensor: no model is loaded. Raises InputError where no null model can
        be made from these weights.
        """
