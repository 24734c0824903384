"""The prompt sets that ship with the package."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from shiftbench.errors import InputError
from shiftbench.prompts import Prompt
from shiftbench.prompts.datasets.mt_bench import MtBench
from shiftbench.prompts.datasets.self_instruct import SelfInstruct

PUBLISHED = Path(__file__).parents[3] / "shared" / "wu2024" / "prompts.jsonl"


def published() -> dict[str, dict]:
    if not PUBLISHED.exists():
        pytest.skip("the published prompts are not on this machine")
    lines = PUBLISHED.read_text(encoding="utf-8").rstrip("\n").split("\n")
    return {row["id"]: row for row in map(json.loads, lines)}


def decoded(text: str) -> str:
    """What transformers' clean_up_tokenization makes of a text: the published prompts went through it."""
    for mark in (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"):
        text = text.replace(" " + mark, mark)
    return text


def test_self_instruct_spans_are_its_fields() -> None:
    prompts = SelfInstruct(limit=None)()
    assert len(prompts) == 252 and len({prompt.id for prompt in prompts}) == 252
    bare = [prompt for prompt in prompts if not prompt.context_spans]
    assert len(bare) == 44
    for prompt in prompts:
        ((start, stop),) = prompt.instruction_spans
        assert start == 0 and prompt.reference
        if prompt in bare:
            assert stop == len(prompt.text) and prompt.reference.startswith("\n\n")
            continue
        ((first, last),) = prompt.context_spans
        assert prompt.text[stop:first] == "\n\nInput: " and prompt.text[last:] == "\n\nOutput:"
        assert prompt.reference.startswith(" ")


def test_self_instruct_first_prompt() -> None:
    first = SelfInstruct(limit=1)()[0]
    ((start, stop),) = first.context_spans
    assert first.id == "user_oriented_task_0"
    assert first.text[start:stop].startswith("If you have any questions") and first.text[start:stop].endswith(
        "me know."
    )
    assert first.reference is not None and first.reference.startswith(" If you have any questions")


def test_self_instruct_prompts_are_the_published_ones() -> None:
    expected = published()
    prompts = SelfInstruct(limit=None)()
    differ = [prompt.id for prompt in prompts if prompt.text != expected[prompt.id]["prompt"]]
    assert len(differ) <= 5, differ
    for prompt in prompts:
        assert decoded(prompt.text) == decoded(expected[prompt.id]["prompt"]), prompt.id


def test_mt_bench_prompts_are_the_published_ones() -> None:
    expected = published()
    differ = [prompt.id for prompt in MtBench(limit=None)() if prompt.text != expected[prompt.id]["prompt"]]
    assert differ == ["mtbench_roleplay_100"]  # the published copy words this question differently


def test_mt_bench_is_all_instruction() -> None:
    prompts = MtBench(limit=None)()
    assert len(prompts) == 80
    assert all(prompt.instruction_spans == ((0, len(prompt.text)),) and not prompt.context_spans for prompt in prompts)
    assert prompts[0].text.startswith("Compose an engaging travel blog post")
    assert 0 < sum(prompt.reference is not None for prompt in prompts) < 80


def test_a_limit_spreads_over_the_set_in_order() -> None:
    everything: list[Prompt] = SelfInstruct(limit=None)()
    some = SelfInstruct(limit=60)()
    places = [everything.index(prompt) for prompt in some]
    assert len(some) == 60 and some == SelfInstruct(limit=60)()
    steps = {b - a for a, b in pairwise(places)}
    assert places[0] == 0 and steps == {4, 5} and 252 - places[-1] <= 5
    assert SelfInstruct(limit=1000)() == everything


@pytest.mark.parametrize("limit", [0, -3, 2.5, True, "ten"])
def test_a_limit_that_is_no_count_is_refused(limit: int) -> None:
    with pytest.raises(InputError, match=r"dataset\.limit="):
        MtBench(limit=limit)()
