"""Puts prompts into a chat template, and finds where each prompt is in the rendered text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from shiftbench.errors import InputError
from shiftbench.prompts.prompt import Prompt, Span
from shiftbench.prompts.special_tokens import special_prefix
from shiftbench.readers.templates import INSTEAD, rendered

PLACEHOLDER = "\ue000shiftbench\ue001"  # in private-use characters, so that no template contains it by chance


@dataclass(frozen=True)
class Placed:
    """A prompt inside a chat template, or alone.

    text: the rendered template, or the prompt's own text where there is no template. kept: the characters [start, stop)
    of the prompt's own text that stand in `text` from character `place` on. They leave out white space at the prompt's
    ends that the template trims, and special tokens at the prompt's beginning that the template writes too.
    spells_prefix: whether such special tokens were left out; false without a template.
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
    special tokens that the tokenizer puts in front of a text (or, where it puts none in front, with its
    beginning-of-text token), they are removed from the prompt, so that the rendered text has them once. Raises
    InputError where the template cannot be rendered, or changes a prompt's text otherwise than by trimming white space
    at both of its ends.
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

    The first is text[start:], with the special tokens in front left out; the second is that without white space at its
    ends. Both count characters from the beginning of `text`.
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
