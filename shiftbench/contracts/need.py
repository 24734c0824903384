"""What a finding needs of a pair, so that nothing else is loaded, encoded or decoded for it."""

from __future__ import annotations

from enum import Enum


class Need(Enum):
    """A part of a pair that a finding cannot do without. A value completes the sentence "the finding needs ..."."""

    WEIGHT_FILES = "the weight files of both models, read tensor by tensor"
    BASE = "the base model, loaded"
    TUNED = "the tuned model, loaded"
    PROMPTS = "prompts"
    RESPONSES = "responses to the prompts"
    ATTENTION_HEADS = "attention heads"
    GATED_NETWORK = "gated feed-forward networks"


BOTH_MODELS = frozenset({Need.BASE, Need.TUNED})
RESPONSES_OF_BOTH = BOTH_MODELS | {Need.PROMPTS, Need.RESPONSES}
