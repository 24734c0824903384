"""What explainers have in common: the inputs they are given and the units of work they answer with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from shiftbench.explanation import Unit, content_key
from shiftbench.models import Model
from shiftbench.prompts import EncodedPrompt
from shiftbench.words import StaticVectors, Vocabulary


@dataclass(frozen=True)
class Inputs:
    """What an explanation may be made from, besides a model.

    prompts: with the response tokens to explain. vectors: None where the model's own input embeddings stand in.
    """

    prompts: Sequence[tuple[EncodedPrompt, tuple[int, ...]]]
    vocabulary: Vocabulary
    vectors: StaticVectors | None


@dataclass(frozen=True)
class Work:
    """One unit still to be explained or found in the store.

    content: everything its numbers depend on, JSON-able; its digest is the unit's key. compute: makes the unit.
    together: where units are made faster in company; takes work of one method on one model, and gives each unit as it
    is done with its place among the work. The units are those that compute makes.
    """

    unit: str
    content: Mapping[str, Any]
    compute: Callable[[], Unit]
    together: Callable[[Sequence[Work]], Iterator[tuple[int, Unit]]] | None = None

    @property
    def key(self) -> str:
        return content_key(self.content)


def units(work: Sequence[Work]) -> Iterator[tuple[int, Unit]]:
    """Each unit of one explainer's work as it is made, with its place there."""
    if work and work[0].together is not None:
        yield from work[0].together(work)
    else:
        yield from ((place, item.compute()) for place, item in enumerate(work))


class Explainer(Protocol):
    """A method: its options are its fields; `work` lists the units for a model, computing nothing yet."""

    method: ClassVar[str]
    version: ClassVar[int]

    def work(self, model: Model, inputs: Inputs) -> list[Work]: ...


def made_by(explainer: Any, model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a unit's content that is the same for all units of one explainer on one model."""
    return {
        "method": explainer.method,
        "version": explainer.version,
        "options": dict(options),
        "weights": model.weights_digest,
        "tokenizer": model.tokenizer_digest,
        "dtype": model.dtype,
    }


def drawn_for(prompt: EncodedPrompt, seed: int, use: str) -> torch.Generator:
    """Draws of the prompt and not of the model: base and tuned meet the same."""
    key = content_key({"seed": seed, "use": use, "prompt": list(prompt.prompt_ids)})
    return torch.Generator().manual_seed(int(key[:15], 16))


def explains(prompt: EncodedPrompt, response: tuple[int, ...] | None = None) -> dict[str, Any]:
    """The part of a unit's content that says which text it is about."""
    text = {"prefix": list(prompt.prefix_ids), "prompt": list(prompt.prompt_ids)}
    return text if response is None else {**text, "response": list(response)}
