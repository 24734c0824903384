"""Self-Instruct's 252 user-oriented instructions (Wang et al. 2022, arXiv 2212.10560; Apache-2.0)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from shiftbench.prompts import Prompt
from shiftbench.prompts.datasets import evenly
from shiftbench.readers.text_files import packaged_lines


@dataclass(frozen=True)
class SelfInstruct:
    """The packaged user-oriented instructions as Wu et al. prompt with them. limit: how many, None for all."""

    limit: int | None
    name: str = "self_instruct"

    def __call__(self) -> list[Prompt]:
        """Prompts with the ids of the source; the instruction is the task, the input is the context."""
        lines = packaged_lines("self_instruct/user_oriented_instructions.jsonl")
        return evenly([_prompt(json.loads(line)) for line in lines], self.limit)


def _prompt(row: dict) -> Prompt:
    instruction, instance = row["instruction"], row["instances"][0]
    task = ((0, len(instruction)),)
    if not instance["input"]:
        return Prompt(row["id"], instruction, task, reference="\n\n" + instance["output"])
    head = f"{instruction}\n\nInput: "
    context = ((len(head), len(head) + len(instance["input"])),)
    return Prompt(row["id"], f"{head}{instance['input']}\n\nOutput:", task, context, reference=" " + instance["output"])
