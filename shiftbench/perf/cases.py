"""What is attributed when time is taken: a prompt with its response."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from transformers import PreTrainedModel

from shiftbench.prompts import EncodedPrompt


@dataclass(frozen=True)
class Case:
    """A prompt and the response tokens to explain, and the texts that give just these ids."""

    prompt: EncodedPrompt
    response: tuple[int, ...]
    texts: tuple[str, str]

    @property
    def ids(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        return self.prompt.prefix_ids, self.prompt.prompt_ids, self.response


@contextmanager
def attention(module: PreTrainedModel, kind: str) -> Iterator[None]:
    """The module with another attention for a while: transformers' default is sdpa, ours runs on eager."""
    before = module.config._attn_implementation
    module.set_attn_implementation(kind)
    try:
        yield
    finally:
        module.set_attn_implementation(before)
