"""Ratings: how far a response follows the instruction in its prompt."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from shiftbench.contracts.explainer import Inputs, Method
from shiftbench.models import Model
from shiftbench.prompts import Prompt
from shiftbench.store.work import Work


class Ratings(Method):
    """Rates the responses that a finding's explanations are about: 1 to 4, or -1 (shiftbench/ratings/scale.py)."""

    @abstractmethod
    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise InputError, before any work begins, where responses to these prompts cannot be rated."""

    @abstractmethod
    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """One Work for each response that gets a rating. A Work computes its unit, the rating, when it is run.

        A unit is named by the prompt's id and has the array rating_1 (int64, one element, a number of the scale).
        model: the model whose responses are in `inputs`. A prompt whose response gets no rating has no Work.
        """

    def questions(self, responses: int) -> str | None:
        """A line for the dry run: how many questions a chat model may be asked about this number of responses.

        None: no chat model is asked.
        """
        return None
