"""Self-Instruct's 252 user-oriented instructions (Wang et al. 2022, arXiv 2212.10560; Apache-2.0)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shiftbench.prompts import Prompt
from shiftbench.prompts.datasets import evenly
from shiftbench.readers.text_files import packaged_lines


@dataclass(frozen=True)
class SelfInstruct:
    """The packaged user-oriented instructions, in the prompt format of Wu et al. 2023.

    limit: how many prompts to take, spread evenly over the set; None for all. name: the data set's name in results.
    """

    limit: int | None
    name: str = "self_instruct"

    def __call__(self) -> list[Prompt]:
        """The prompts, with the ids of the source.

        An instruction with an input becomes three paragraphs: the instruction, "Input: " with the input, and "Output:".
        An instruction without an input is the whole prompt. The instruction span is the instruction, and the context
        span is the input. The reference is the output that the source gives, behind a space where the prompt has an
        input and behind two line feeds where it has none.
        """
        lines = packaged_lines("self_instruct/user_oriented_instructions.jsonl")
        return evenly([_prompt(json.loads(line)) for line in lines], self.limit)


def _prompt(row: dict[str, Any]) -> Prompt:
    instruction, instance = row["instruction"], row["instances"][0]
    task = ((0, len(instruction)),)
    if not instance["input"]:
        return Prompt(row["id"], instruction, task, reference="\n\n" + instance["output"])
    head = f"{instruction}\n\nInput: "
    context = ((len(head), len(head) + len(instance["input"])),)
    return Prompt(row["id"], f"{head}{instance['input']}\n\nOutput:", task, context, reference=" " + instance["output"])
