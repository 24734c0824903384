"""MT-Bench's 80 questions (Zheng et al. 2023, arXiv 2306.05685; Apache-2.0)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from shiftbench.prompts import Prompt
from shiftbench.prompts.datasets import evenly
from shiftbench.readers.text_files import packaged_lines


@dataclass(frozen=True)
class MtBench:
    """The first turn of each packaged question as a prompt. The instruction span is the whole text.

    limit: how many prompts to take, spread evenly over the set; None for all. name: the data set's name in results.
    """

    limit: int | None
    name: str = "mt_bench"

    def __call__(self) -> list[Prompt]:
        """The prompts, with ids mtbench_<category>_<question id> and the category as skill.

        The reference is the packaged answer after an empty line; only some questions have one.
        """
        rows = [json.loads(line) for line in packaged_lines("mt_bench/question.jsonl")]
        return evenly([_prompt(row) for row in rows], self.limit)


def _prompt(row: dict[str, Any]) -> Prompt:
    text = row["turns"][0]
    reference = "\n\n" + row["reference"][0] if "reference" in row else None
    name = f"mtbench_{row['category']}_{row['question_id']}"
    return Prompt(name, text, ((0, len(text)),), reference=reference, skill=row["category"])
