"""Ratings: how far a response follows the instruction of its prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from shiftbench.contracts.explainer import Inputs, Method
from shiftbench.models import Model
from shiftbench.prompts import Prompt
from shiftbench.store.work import Work


class Ratings(Method):
    """Rates the responses that a finding explains; the scale is in ratings/scale.py."""

    @abstractmethod
    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise InputError, before any work, where no rating could be given."""

    @abstractmethod
    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit a response that gets a rating, named as its prompt: rating_1, int64."""

    def questions(self, responses: int) -> str | None:
        """A line that says how many questions so many responses take; None where it asks nobody."""
        return None
