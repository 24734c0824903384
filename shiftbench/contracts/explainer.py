"""Explainers: methods that compute explanations from one model, from both models of a pair, or from weight files."""

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

PromptWithResponse = tuple[EncodedPrompt, tuple[int, ...]]  # a prompt, and the token ids of the response to explain


@dataclass(frozen=True)
class Inputs:
    """What an explanation is computed from, besides a model.

    prompts: each with the token ids of the response to explain; empty for a finding that needs no responses.
    vectors: static word vectors; None where the model's own input embeddings are used instead.
    """

    prompts: Sequence[PromptWithResponse]
    vocabulary: Vocabulary
    vectors: StaticVectors | None


class Method(ABC):
    """A method with a name and a version.

    Both are part of the store key of every unit, so raising the version computes all its units again.
    """

    method: ClassVar[str]
    version: ClassVar[int]


class Explainer(Method):
    """A method that explains one model. Its fields are its options; `work` lists the units that it would compute.

    The other methods have defaults: by default an explainer uses the job's prompts, accepts every model and vocabulary,
    and counts as free of cost. `shiftbench score dry_run=true` estimates a job's time, memory and disk space from
    `flops`, `engine_bytes`, `extra_weight_bytes`, `stored_bytes` and `questions`.
    """

    @abstractmethod
    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """One Work for each unit of the explanation, in order. A Work computes its unit when it is run, not before.

        An override's docstring names the arrays of a unit, with shapes and dtypes.
        """

    def check_source(self, source: ModelSource) -> None:
        """Raise InputError where this method cannot explain a model, as far as is known before its weights are read."""

    def check_model(self, model: Model) -> None:
        """Raise InputError where this method cannot explain a loaded model."""

    def check_words(self, option: str, vocabulary: Vocabulary, vectors: StaticVectors | None) -> None:
        """Raise InputError where this method cannot use the vocabulary or the word vectors.

        option: the key of this method's options in the configuration, for the message, for example
        'findings.instruction_verbs.explain'. vectors: None where the model's own input embeddings are used instead.
        """

    def own_prompts(self, prompts: Sequence[Prompt]) -> Sequence[Prompt] | None:
        """Prompts that this method makes from the job's and explains in place of them; None: it explains the job's."""
        return None

    def methods_used(self) -> Sequence[Method | Annotator]:
        """Further methods that the units depend on; their versions are recorded with this method's version."""
        return ()

    def notes(self) -> list[str]:
        """Notes for the report on what this method has computed so far in this process."""
        return []

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """The approximate number of floating-point operations to explain one model on these prompts.

        shape: of the model. prompt_tokens: the length of each prompt. response_tokens: the length of every response.
        """
        return 0.0

    def engine_bytes(self, device: torch.device) -> int:
        """The most memory, in bytes, that the engine uses on a device for this method, weights not counted."""
        return 0

    def extra_weight_bytes(self, shape: ModelShape) -> float:
        """The memory, in bytes, of a second copy of the weights in another precision; 0 where there is none."""
        return 0.0

    def stored_bytes(self, shape: ModelShape) -> float:
        """The approximate bytes of one model's units in the store, the units of prompts not counted."""
        return 0.0

    def questions(self, shapes: Sequence[ModelShape]) -> str | None:
        """A line for the dry run: how many questions a chat model is asked; None: none is asked."""
        return None


class PairExplainer(Method):
    """A method that explains both models of a pair together, both of them loaded."""

    @abstractmethod
    def work(self, base: Model, tuned: Model) -> list[Work]:
        """The explanation's units, in order, as work that is not done yet."""


class WeightExplainer(Method):
    """A method that reads a pair's weights tensor by tensor, from their files: no model is loaded for it."""

    @abstractmethod
    def work(self, base: Weights, tuned: Weights) -> list[Work]:
        """The units of the pair's explanation, in order, as work that is not done yet."""
