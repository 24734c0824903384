"""Ratings that a file says, as people or an earlier judge gave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from shiftbench.contracts.explainer import Inputs
from shiftbench.contracts.ratings import Ratings
from shiftbench.errors import InputError
from shiftbench.models import Model
from shiftbench.prompts import Prompt
from shiftbench.ratings.scale import FOLLOWED, UNFOLLOWED, rating
from shiftbench.readers.text_files import json_rows
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work


@dataclass(frozen=True)
class FileRatings(Ratings):
    """path: a file of {"id", "model", "rating"} a line, an id once, as a folder of published explanations has it.

    They are true of the responses that were rated; whether those are the ones explained is the user's to see to.
    """

    path: str
    by_id: Mapping[str, int] = field(init=False, repr=False, compare=False)
    method: ClassVar[str] = "ratings_file"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        rows = json_rows(self.path, "ratings.path", lambda line: (rating(line), None))
        object.__setattr__(self, "by_id", {row["id"]: row["rating"] for row, _ in rows})

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Refuse, by InputError, ratings that leave nothing to compare."""
        given = [self.by_id[prompt.id] for prompt in prompts if prompt.id in self.by_id]
        if not given:
            first = next(iter(self.by_id))
            raise InputError(
                f"ratings.path={self.path}: no id there is that of a prompt (there: {first!r}, prompts: "
                f"{prompts[0].id!r}); rate the prompts of this dataset"
            )
        if UNFOLLOWED not in given or max(given) < FOLLOWED:
            missing = "unfollowed (1)" if UNFOLLOWED not in given else f"followed ({FOLLOWED} or more)"
            raise InputError(f"ratings.path={self.path}: none of {len(given)} rated prompts is {missing}")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit a rated prompt: rating_1, int64."""
        return [
            Work(
                unit=prompt.prompt.id,
                content={"method": self.method, "version": self.version, "prompt": prompt.prompt.id, "rating": given},
                compute=lambda given=given: Unit({"rating_1": torch.tensor([given])}),  # type: ignore[misc]
            )
            for prompt, _ in inputs.prompts
            if (given := self.by_id.get(prompt.prompt.id)) is not None
        ]
