"""Need: a part of a pair that a finding requires. Both models are loaded where a finding needs BASE or TUNED."""

from __future__ import annotations

from enum import Enum


class Need(Enum):
    """A part of a pair that a finding requires. Each value ends a sentence that begins "the finding needs"."""

    WEIGHT_FILES = "the weight files of both models, read tensor by tensor"
    BASE = "the base model, loaded"
    TUNED = "the tuned model, loaded"
    PROMPTS = "prompts"
    RESPONSES = "responses to the prompts"
    ATTENTION_HEADS = "attention heads"
    GATED_NETWORK = "gated feed-forward networks"


BOTH_MODELS = frozenset({Need.BASE, Need.TUNED})
RESPONSES_OF_BOTH = BOTH_MODELS | {Need.PROMPTS, Need.RESPONSES}
