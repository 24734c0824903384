"""The sources of prompts, a file each: jsonl.py (a user's file), mt_bench.py and self_instruct.py (packaged sets)."""

from __future__ import annotations

from collections.abc import Sequence

from shiftbench.errors import InputError
from shiftbench.prompts import Prompt
from shiftbench.readers.numbers import check_whole


def evenly(prompts: Sequence[Prompt], limit: int | None) -> list[Prompt]:
    """`limit` prompts spread evenly over a set, in its order; all of them where limit is None or larger than the set.

    They are spread because the packaged sets have prompts on one topic side by side, so the first `limit` prompts would
    be about few topics. Raises InputError where the set is empty, and where limit is neither None nor a positive whole
    number.
    """
    check_whole("dataset.limit", limit, 1, null="all prompts")
    if not prompts:
        raise InputError("the prompt set is empty; give at least one prompt")
    if limit is None or limit >= len(prompts):
        return list(prompts)
    return [prompts[i * len(prompts) // limit] for i in range(limit)]
