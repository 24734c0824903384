"""Prompt: a text, and which of its characters state the task."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shiftbench.errors import InputError
from shiftbench.words import word_lists

Span = tuple[int, int]  # characters [start, stop)
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


@dataclass(frozen=True)
class Prompt:
    """A text given to a model, with the characters that state the task and those that are its material.

    key_spans: of the instruction, what the answer hangs on; empty: its words that are not of a closed class.
    skill: the type of skill that it asks for, by which mixtures of instructions are compared; no result depends on it.
    """

    id: str
    text: str
    instruction_spans: tuple[Span, ...]
    context_spans: tuple[Span, ...] = ()
    reference: str | None = None  # the response to explain in response mode 'reference'
    key_spans: tuple[Span, ...] = ()
    skill: str | None = None

    def __post_init__(self) -> None:
        kinds = {"instruction": self.instruction_spans, "context": self.context_spans, "key": self.key_spans}
        for kind, spans in kinds.items():
            for start, stop in spans:
                if stop > len(self.text):
                    raise InputError(
                        f"{kind} span [{start}, {stop}) ends beyond prompt {self.id!r} ({len(self.text)} characters)"
                    )
                if not 0 <= start < stop:
                    raise InputError(f"{kind} span [{start}, {stop}) of prompt {self.id!r} is empty or negative")


def content_words(prompt: Prompt) -> list[Span]:
    """The words of the instruction that are not of a closed class (articles, pronouns, prepositions, auxiliaries)."""
    closed = set(word_lists()["closed"])
    return [
        found.span()
        for start, stop in prompt.instruction_spans
        for found in WORD.finditer(prompt.text, start, stop)
        if found[0].lower() not in closed
    ]
