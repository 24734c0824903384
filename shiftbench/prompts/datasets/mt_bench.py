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
    """The first turn of each packaged question. The instruction is the whole text.

    limit: the number of prompts to take, None for all.
    """

    limit: int | None
    name: str = "mt_bench"

    def __call__(self) -> list[Prompt]:
        """The prompts, with ids mtbench_<category>_<question id>. Only some questions have a reference answer."""
        rows = [json.loads(line) for line in packaged_lines("mt_bench/question.jsonl")]
        return evenly([_prompt(row) for row in rows], self.limit)


def _prompt(row: dict[str, Any]) -> Prompt:
    text = row["turns"][0]
    reference = "\n\n" + row["reference"][0] if "reference" in row else None
    name = f"mtbench_{row['category']}_{row['question_id']}"
    return Prompt(name, text, ((0, len(text)),), reference=reference, skill=row["category"])
