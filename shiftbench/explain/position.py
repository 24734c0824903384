"""Attribution of prompts in two orders: with the instruction before the context, and after it (arXiv 2308.12097)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from shiftbench.contracts.explainer import Inputs
from shiftbench.explain.attribution import Attribution, attribution
from shiftbench.models import Model, ModelShape
from shiftbench.prompts import EncodedPrompt, Prompt, Span
from shiftbench.store.work import Work

FIRST, LAST = "first", "last"  # whether the instruction stands before or behind the context
POSITIONS = (FIRST, LAST)


@dataclass(frozen=True)
class PlacedAttribution(Attribution):
    """Attribution of responses to prompts in two orders: with the instruction first, and with the instruction last.

    Each prompt is answered in both orders, and each of the two answers is explained as a response to both orders. So
    each order is explained equally often on answers that were given to it and on answers that were given to the other
    order.
    """

    def own_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Both orders of each prompt that has two, with ids PROMPT/first and PROMPT/last. Others are left out."""
        return [
            replace(ordered, id=f"{prompt.id}/{position}")
            for prompt in prompts
            for position, ordered in zip(POSITIONS, both_orders(prompt) or (), strict=False)
        ]

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """Twice the operations of an Attribution, because the prompt in each order is explained on two answers.

        prompt_tokens: the length of each prompt of `own_prompts`, where each order is a prompt of its own.
        """
        return 2 * super().flops(shape, prompt_tokens, response_tokens)

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """The units of Attribution, four for each prompt: both orders, each explained on both answers, even empty ones.

        inputs.prompts: those of `own_prompts`. A prompt of which only one order is there gets no unit, nor
        does one in `leaves_out`. `unit_name` names the units.
        """
        by_id = {prompt.prompt.id: (prompt, response) for prompt, response in inputs.prompts}
        prompts = []
        for name, (prompt, _) in by_id.items():
            prompt_id, _, position = name.rpartition("/")
            for answer_position in POSITIONS:
                answer = by_id.get(f"{prompt_id}/{answer_position}")
                # A prompt has one order alone where the other was too long for the context window.
                if prompt_id in self.leaves_out:
                    continue
                if answer is not None and f"{prompt_id}/{_other(position)}" in by_id:
                    prompts.append((_with_id(prompt, unit_name(prompt_id, position, answer_position)), answer[1]))
        return super().work(model, replace(inputs, prompts=prompts))


def placed_attribution(**options: Any) -> PlacedAttribution:
    """The PlacedAttribution that conf/explain/position.yaml describes. options: those of `attribution.attribution`."""
    return attribution(**options, explainer=PlacedAttribution)


def unit_name(prompt: str, position: str, answer_position: str) -> str:
    """PROMPT/POSITION/ANSWER_POSITION, the name of the unit of a prompt in one order, explained on one answer.

    position: where the instruction stands in the explained prompt, "first" or "last". answer_position: where it stood
    in the prompt that the tuned model answered.
    """
    return f"{prompt}/{position}/{answer_position}"


def both_orders(prompt: Prompt) -> tuple[Prompt, Prompt] | None:
    """(the prompt with its instruction first, the prompt with its instruction last); one of them is `prompt` itself.

    Two blocks of text change places: the instruction and the context, each with the label in front of it. The block
    that stands first begins at the beginning of its line; the second one begins behind the white space that follows the
    first one. That white space stays between them, and the spans move with their blocks. None where the prompt has no
    second order: it has no instruction or no context, the first block is not followed by white space with a line break,
    or the spans of instruction and context are interleaved.
    """
    if not prompt.instruction_spans or not prompt.context_spans:
        return None
    hulls = sorted((_hull(prompt.instruction_spans), _hull(prompt.context_spans)))
    (first_start, first_stop), (second_start, second_stop) = hulls
    between = prompt.text[first_stop:second_start]
    gap = re.match(r"\s*", between)
    if first_stop > second_start or gap is None or "\n" not in gap[0]:
        return None
    label_start = prompt.text.rfind("\n", 0, first_start) + 1
    first_block, second_block = (label_start, first_stop), (first_stop + gap.end(), second_stop)
    parts = [prompt.text[: first_block[0]], prompt.text[slice(*second_block)], gap[0], prompt.text[slice(*first_block)]]

    def move_all(spans: Sequence[Span]) -> tuple[Span, ...]:
        return tuple(_move(span, first_block, second_block, len(parts[2])) for span in spans)

    moved = replace(
        prompt,
        text="".join(parts) + prompt.text[second_stop:],
        instruction_spans=move_all(prompt.instruction_spans),
        context_spans=move_all(prompt.context_spans),
        key_spans=move_all(prompt.key_spans),
    )
    return (prompt, moved) if hulls[0] == _hull(prompt.instruction_spans) else (moved, prompt)


def _move(span: Span, first_block: Span, second_block: Span, gap: int) -> Span:
    """The span, after two blocks of text have changed places. A span outside both blocks stays.

    first_block, second_block: where the blocks were before. gap: how many characters are between them.
    """
    start, stop = span
    if second_block[0] <= start < second_block[1]:
        shift = first_block[0] - second_block[0]
    else:
        shift = second_block[1] - second_block[0] + gap if first_block[0] <= start < first_block[1] else 0
    return start + shift, stop + shift


def _hull(spans: Sequence[Span]) -> Span:
    """The smallest span that covers all spans."""
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def _other(position: str) -> str:
    return LAST if position == FIRST else FIRST


def _with_id(prompt: EncodedPrompt, name: str) -> EncodedPrompt:
    return replace(prompt, prompt=replace(prompt.prompt, id=name))
