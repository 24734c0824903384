"""What a unit's key is computed from, and random draws that depend on a prompt and not on a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from shiftbench.contracts.explainer import Method
from shiftbench.models import Model
from shiftbench.prompts import EncodedPrompt
from shiftbench.store.explanation import content_key


def method_content(method: Method, model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a unit's content (store.work.Work) that is the same for all units of one method on one model.

    options: those options of the method on which the numbers depend. Memory, devices and paths are never among them.
    """
    return {
        "method": method.method,
        "version": method.version,
        "options": dict(options),
        "weights": model.weights_digest,
        "tokenizer": model.tokenizer_digest,
        "dtype": model.dtype,
    }


def prompt_draws(prompt: EncodedPrompt, seed: int, purpose: str) -> torch.Generator:
    """A random generator whose seed depends on `seed`, `purpose` and the prompt's token ids, and not on the model.

    So base and tuned get equal draws where they get equal token ids. purpose: a name for what is drawn; generators for
    different purposes are independent of each other.
    """
    key = content_key({"seed": seed, "use": purpose, "prompt": list(prompt.prompt_ids)})
    return torch.Generator().manual_seed(int(key[:15], 16))


def text_content(prompt: EncodedPrompt, response: tuple[int, ...] | None = None) -> dict[str, Any]:
    """The part of a unit's content (store.work.Work) that says which text it explains.

    It has token ids by part of the text: "prefix", "prompt" and "response". response: token ids; None for a unit that
    depends on prefix and prompt alone, whose content has no "response".
    """
    text = {"prefix": list(prompt.prefix_ids), "prompt": list(prompt.prompt_ids)}
    return text if response is None else {**text, "response": list(response)}
