"""Prompts inside a chat template, and where the prompt stands in the rendered text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from shiftbench.errors import InputError
from shiftbench.prompts.prompt import Prompt, Span
from shiftbench.prompts.special_tokens import special_prefix
from shiftbench.readers.templates import INSTEAD, rendered

STAND_IN = "\ue000shiftbench\ue001"  # private-use characters: in no template


@dataclass(frozen=True)
class Placed:
    """A prompt's text in a chat template. place: where the prompt begins in it; kept: which of the prompt's characters
    are there; spells_prefix: as of an EncodedPrompt."""

    text: str
    place: int
    kept: Span
    spells_prefix: bool = False


def in_template(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, template: str, name: str
) -> list[Placed]:
    """Each prompt inside a chat template, all rendered in one child process.

    name: of the model whose template it is. A prompt that begins with the beginning-of-text token loses it where the
    template writes it in front, so that the text has it once. Raises InputError where the template cannot be rendered
    or does not contain the text of a prompt.
    """
    # A stand-in shows the place: the prompt's own words may stand in the template too.
    frame, *texts = rendered([STAND_IN, *(prompt.text for prompt in prompts)], tokenizer, template, name)
    place, beginning = frame.find(STAND_IN), _beginning(tokenizer)
    written = bool(beginning) and place > 0 and frame.startswith(beginning)
    starts = [len(beginning) if written and prompt.text.startswith(beginning) else 0 for prompt in prompts]
    if any(starts):
        without = [prompt.text[start:] for prompt, start in zip(prompts, starts, strict=True)]
        texts = rendered(without, tokenizer, template, name)
    found = []
    for prompt, text, start in zip(prompts, texts, starts, strict=True):
        fitting = [kept for kept in _kept(prompt.text, start) if text.startswith(prompt.text[slice(*kept)], place)]
        if place < 0 or not fitting:
            raise InputError(f"the chat template of {name} changes the text of prompt {prompt.id!r}; {INSTEAD}")
        found.append(Placed(text, place, fitting[0], start > 0))
    return found


def _kept(text: str, start: int) -> list[Span]:
    """What a template may keep of a text from a character on: all of it, or what is left without white space around."""
    rest = text[start:]
    lead = start + len(rest) - len(rest.lstrip())
    return [(start, len(text)), (lead, lead + len(rest.strip()))]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the special tokens that the tokenizer puts in front, else of its beginning-of-text token, or none."""
    prefix = special_prefix(tokenizer)
    return "".join(tokenizer.convert_ids_to_tokens(list(prefix))) if prefix else str(tokenizer.bos_token or "")
