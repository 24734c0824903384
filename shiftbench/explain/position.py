"""The same prompts with the instruction before and after the context, explained crosswise (arXiv 2308.12097)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shiftbench.contracts.explainer import Inputs
from shiftbench.explain.attribution import Attribution
from shiftbench.models import Model, ModelShape
from shiftbench.prompts import EncodedPrompt, Prompt, Span
from shiftbench.store.work import Work

FIRST, LAST = "first", "last"  # where the instruction stands
PLACES = (FIRST, LAST)


@dataclass(frozen=True)
class PlacedAttribution(Attribution):
    """Attribution of responses to prompts in both orders.

    Each prompt is answered twice, once in each order, and each answer is explained in both: so neither order is
    explained on answers that were made for it more often than the other is.
    """

    def own_prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Both orders of each prompt that has two; their ids are unit names without the answer's part."""
        return [
            replace(placed, id=f"{prompt.id}/{place}")
            for prompt in prompts
            for place, placed in zip(PLACES, both_orders(prompt) or (), strict=False)
        ]

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """Twice that of an attribution: the prompt in each order is explained on the answers to both."""
        return 2 * super().flops(shape, prompt_tokens, response_tokens)

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """As of attribution, four units a prompt, called unit_name(prompt, where it stands, whose answer)."""
        by_id = {prompt.prompt.id: (prompt, response) for prompt, response in inputs.prompts}
        crossed = []
        for name, (prompt, _) in by_id.items():
            asked, _, place = name.rpartition("/")
            for answered in PLACES:
                answer = by_id.get(f"{asked}/{answered}")
                if answer is not None and f"{asked}/{_other(place)}" in by_id:  # one alone may not fit the context
                    crossed.append((_called(prompt, unit_name(asked, place, answered)), answer[1]))
        return super().work(model, replace(inputs, prompts=crossed))


def placed_attribution(method: str, steps: int, levels: int, memory: int | None, precision: str) -> PlacedAttribution:
    """What conf/explain/position.yaml describes; `method` is Attribution.by."""
    return PlacedAttribution(levels, memory, precision, method, steps)


def unit_name(prompt: str, place: str, answered: str) -> str:
    """Of a prompt in one order, with the answer that was given to it in one."""
    return f"{prompt}/{place}/{answered}"


def both_orders(prompt: Prompt) -> tuple[Prompt, Prompt] | None:
    """(instruction first, instruction last), one of them the prompt itself; None where it has no second order.

    What moves is the instruction, with the label in front of it on its line, past the context with its label; the break
    between them stays between them. Without a break, or where the two are interleaved, the text has no second order.
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
    one, two = (label_start, first_stop), (first_stop + gap.end(), second_stop)
    parts = [prompt.text[: one[0]], prompt.text[slice(*two)], gap[0], prompt.text[slice(*one)]]

    def there(spans: Sequence[Span]) -> tuple[Span, ...]:
        return tuple(_moved(span, one, two, len(parts[2])) for span in spans)

    moved = replace(
        prompt,
        text="".join(parts) + prompt.text[second_stop:],
        instruction_spans=there(prompt.instruction_spans),
        context_spans=there(prompt.context_spans),
        key_spans=there(prompt.key_spans),
    )
    return (prompt, moved) if hulls[0] == _hull(prompt.instruction_spans) else (moved, prompt)


def _moved(span: Span, one: Span, two: Span, gap: int) -> Span:
    """Where a span stands when the blocks one and two have changed places."""
    start, stop = span
    if two[0] <= start < two[1]:
        shift = one[0] - two[0]
    else:
        shift = two[1] - two[0] + gap if one[0] <= start < one[1] else 0
    return start + shift, stop + shift


def _hull(spans: Sequence[Span]) -> Span:
    return min(start for start, _ in spans), max(stop for _, stop in spans)


def _other(place: str) -> str:
    return LAST if place == FIRST else FIRST


def _called(prompt: EncodedPrompt, name: str) -> EncodedPrompt:
    return replace(prompt, prompt=replace(prompt.prompt, id=name))
