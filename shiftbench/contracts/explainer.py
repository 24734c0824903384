"""Explainers: methods that look inside one model, inside a pair, or into weight files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from shiftbench.contracts.annotator import Annotator
from shiftbench.models import Model, ModelShape, ModelSource
from shiftbench.models.weights import Weights
from shiftbench.prompts import EncodedPrompt, Prompt
from shiftbench.store.work import Work
from shiftbench.words import StaticVectors, Vocabulary

Answered = tuple[EncodedPrompt, tuple[int, ...]]  # a prompt, and the token ids of the response to explain


@dataclass(frozen=True)
class Inputs:
    """What an explanation may be computed from, besides a model.

    prompts: each with the token ids of the response to explain; empty for a finding that needs no responses.
    vectors: static word vectors; None where the model's own input embeddings stand in for them.
    """

    prompts: Sequence[Answered]
    vocabulary: Vocabulary
    vectors: StaticVectors | None


class Method(ABC):
    """A method with a name and a version. Both are part of every unit's key, so a new version computes units anew."""

    method: ClassVar[str]
    version: ClassVar[int]


class Explainer(Method):
    """A method that looks inside one model: its options are its fields, and `work` lists what it would compute.

    The methods below have defaults for an explainer that asks no prompts of its own, has nothing to refuse and costs
    little. `shiftbench score dry_run=true` adds up `flops`, `engine_bytes`, `extra_weight_bytes`, `stored_bytes` and
    `questions` of all findings.
    """

    @abstractmethod
    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """The units of the explanation, in order; computes nothing yet. An override's docstring names their arrays."""

    def check_source(self, source: ModelSource) -> None:
        """Raise InputError where these options do not suit a model, as far as its source tells."""

    def check_model(self, model: Model) -> None:
        """Raise InputError where these options do not suit a loaded model."""

    def check_words(self, option: str, vocabulary: Vocabulary, vectors: StaticVectors | None) -> None:
        """Raise InputError where these options do not suit the words. option: what these options are under in conf/."""

    def own_prompts(self, prompts: Sequence[Prompt]) -> Sequence[Prompt] | None:
        """The prompts that this method asks in place of the job's, made from them; None: it asks the job's."""
        return None

    def methods_used(self) -> Sequence[Method | Annotator]:
        """Further methods that the units depend on; their versions are recorded beside this one's."""
        return ()

    def notes(self) -> list[str]:
        """Remarks for the reader on what was computed so far."""
        return []

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """About how many floating-point operations the units of these prompts take on a model of a shape."""
        return 0.0

    def engine_bytes(self, device: torch.device) -> int:
        """The most bytes that the engine fills for this method on a device, besides weights."""
        return 0

    def extra_weight_bytes(self, shape: ModelShape) -> float:
        """Bytes of weights that are held a second time, in another precision."""
        return 0.0

    def stored_bytes(self, shape: ModelShape) -> float:
        """About how many bytes of arrays the units of one model take in the store, those of prompts left out."""
        return 0.0

    def questions(self, shapes: Sequence[ModelShape]) -> str | None:
        """A line that says how many questions a chat model would be asked; None: none."""
        return None


class PairExplainer(Method):
    """A method that looks at what lies between a base and a tuned model."""

    @abstractmethod
    def work(self, base: Model, tuned: Model) -> list[Work]:
        """The units of the explanation, in order; computes nothing yet."""


class WeightExplainer(Method):
    """A method that reads a pair's weights tensor by tensor, from their files: no model is loaded for it."""

    @abstractmethod
    def work(self, base: Weights, tuned: Weights) -> list[Work]:
        """The units of the explanation of the pair, in order; computes nothing yet."""
