"""Prompt: a text with marked spans of characters, among them those that state the task."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shiftbench.errors import InputError
from shiftbench.words import word_lists

Span = tuple[int, int]  # the characters [start, stop) of a text, counted as Unicode code points
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


@dataclass(frozen=True)
class Prompt:
    """A text that is given to a model, with marked spans.

    id: names the prompt in messages and results. instruction_spans: the characters that state the task. context_spans:
    the characters of the material that the task is to be done on. key_spans: the parts of the instruction that the
    answer depends on most; where there are none, `content_words` are used. reference: the response to explain in
    response mode 'reference', or None. skill: the kind of skill that the prompt tests, or None; comparisons of mixtures
    group prompts by it, and nothing else depends on it.
    Raises InputError for a span that is empty, negative or ends beyond the text.
    """

    id: str
    text: str
    instruction_spans: tuple[Span, ...]
    context_spans: tuple[Span, ...] = ()
    reference: str | None = None
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
    """The spans of the words in a prompt's instruction that are of no closed class (article, pronoun, auxiliary, ...).

    A word is a run of letters and digits, with single apostrophes and hyphens inside; a word that an instruction span
    cuts counts as the part in the span. The words of closed classes are the packaged list "closed"; letter case does
    not count.
    """
    closed = set(word_lists()["closed"])
    return [
        found.span()
        for start, stop in prompt.instruction_spans
        for found in WORD.finditer(prompt.text, start, stop)
        if found[0].lower() not in closed
    ]
