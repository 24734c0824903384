"""The inputs on which attribution is timed: a prompt with its response."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from transformers import PreTrainedModel

from shiftbench.prompts import EncodedPrompt


@dataclass(frozen=True)
class Case:
    """A prompt and the response tokens to explain.

    texts: the prompt, and the prompt followed by the response, for libraries that take texts. Both are empty where no
    such library is timed, as where the ids are random (`hot_spots.random_case`).
    """

    prompt: EncodedPrompt
    response: tuple[int, ...]
    texts: tuple[str, str]

    @property
    def ids(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """(prefix, prompt, response) as token ids."""
        return self.prompt.prefix_ids, self.prompt.prompt_ids, self.response


@contextmanager
def attention_implementation(module: PreTrainedModel, kind: str) -> Iterator[None]:
    """Run the block with another attention implementation of transformers, and restore the module's own one after it.

    kind: 'sdpa', the default of transformers, or 'eager', which our engine needs.
    """
    before = module.config._attn_implementation
    module.set_attn_implementation(kind)
    try:
        yield
    finally:
        module.set_attn_implementation(before)
