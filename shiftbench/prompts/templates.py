"""Puts prompts into a chat template, and finds where each prompt is in the rendered text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from shiftbench.errors import InputError
from shiftbench.prompts.prompt import Prompt, Span
from shiftbench.prompts.special_tokens import special_prefix
from shiftbench.readers.templates import INSTEAD, rendered

PLACEHOLDER = "\ue000shiftbench\ue001"  # private-use characters, which no template contains


@dataclass(frozen=True)
class Placed:
    """A prompt inside a chat template.

    text: the rendered template. place: the character of `text` at which the prompt begins. kept: the characters
    [start, stop) of the prompt that `text` contains; a template may trim white space at the prompt's ends.
    spells_prefix: whether the prompt begins with the beginning-of-text token that the template writes too, so that it
    was removed from the prompt.
    """

    text: str
    place: int
    kept: Span
    spells_prefix: bool = False


def in_template(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerBase, template: str, name: str
) -> list[Placed]:
    """Each prompt inside a chat template, in the order of `prompts`. A child process renders them.

    name: the name of the model whose template it is, for messages. If the template and a prompt both begin with the
    beginning-of-text token, the token is removed from the prompt, so that the rendered text has it once. Raises
    InputError where the template cannot be rendered, or changes a prompt's text. White space at a prompt's ends may be
    trimmed.
    """
    # A placeholder shows where the template puts the prompt. Searching for the prompt's own words might find a part of
    # the template instead.
    frame, *texts = rendered([PLACEHOLDER, *(prompt.text for prompt in prompts)], tokenizer, template, name)
    place, beginning = frame.find(PLACEHOLDER), _beginning(tokenizer)
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
    """The two spans of a prompt's text of which a rendered template may contain either.

    The first is text[start:]; the second is that without white space at its ends. Both count from the text's beginning.
    """
    rest = text[start:]
    lead = start + len(rest) - len(rest.lstrip())
    return [(start, len(text)), (lead, lead + len(rest.strip()))]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> str:
    """The special tokens that the tokenizer puts in front of a text, as text.

    Where it puts none in front, the result is its beginning-of-text token, or '' where it has no such token.
    """
    prefix = special_prefix(tokenizer)
    return "".join(tokenizer.convert_ids_to_tokens(list(prefix))) if prefix else str(tokenizer.bos_token or "")
