"""Ratings from a file, given by people or by an earlier judge."""

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
    """Takes the rating of a prompt's response from a file, by the prompt's id.

    path: a file with {"id", "model", "rating"} on each line and each id once, the format of published explanations.
    The field "model" is not used. by_id: the rating of each prompt id, as read from the file. A rating belongs to the
    response that was rated. That the explained response is the same one is not checked here; the user must ensure it.
    Raises InputError where the file cannot be read or has another form.
    """

    path: str
    by_id: Mapping[str, int] = field(init=False, repr=False, compare=False)
    method: ClassVar[str] = "ratings_file"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        rows = json_rows(self.path, "ratings.path", lambda line: (rating(line), None))
        object.__setattr__(self, "by_id", {row["id"]: row["rating"] for row, _ in rows})

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Raise InputError where the file rates none of the prompts, or where its ratings of them give no two groups.

        Two groups need a response that follows its instruction (2 or more) and one that does not (1).
        """
        given = [self.by_id[prompt.id] for prompt in prompts if prompt.id in self.by_id]
        if not given:
            first = next(iter(self.by_id))
            raise InputError(
                f"ratings.path={self.path}: no id in the file is that of a prompt (file: {first!r}, prompts: "
                f"{prompts[0].id!r}); rate the prompts of this dataset"
            )
        if UNFOLLOWED not in given or max(given) < FOLLOWED:
            missing = "unfollowed (1)" if UNFOLLOWED not in given else f"followed ({FOLLOWED} or more)"
            raise InputError(f"ratings.path={self.path}: none of {len(given)} rated prompts is {missing}")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """One Work for each prompt that the file rates; its unit has rating_1, int64, the file's number (-1 or 1 to 4).

        model and the responses are not used.
        """
        return [
            Work(
                unit=prompt.prompt.id,
                content={"method": self.method, "version": self.version, "prompt": prompt.prompt.id, "rating": given},
                compute=lambda given=given: Unit({"rating_1": torch.tensor([given])}),  # type: ignore[misc]
            )
            for prompt, _ in inputs.prompts
            if (given := self.by_id.get(prompt.prompt.id)) is not None
        ]
