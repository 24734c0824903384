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
    vocabulary: the words that weights are described by. vectors: static word vectors; None where the model's own input
    embeddings are used instead.

    read_in: the model in whose word embeddings components are read as words; None: the explained model's own. Tuned and
    null models are read as base is, so that a component that did not change keeps its words. also_own: whether the
    components are labelled a second time, as read in the explained model's own embeddings. It has no effect where the
    explained model has the weights and the tokenizer of `read_in`.
    """

    prompts: Sequence[PromptWithResponse]
    vocabulary: Vocabulary
    vectors: StaticVectors | None
    read_in: Model | None = None
    also_own: bool = False


class Method(ABC):
    """A computation of explanations or ratings with a name and a version.

    method: the name. Name and version are part of the store key of every unit that the method computes, so after the
    version is raised all of these units are computed again.
    """

    method: ClassVar[str]
    version: ClassVar[int]


class Explainer(Method):
    """A method that explains one model. Its fields are its options; `work` lists the units that it would compute.

    The other methods have defaults: by default an explainer uses the job's prompts, accepts every model and vocabulary,
    and counts as free of cost. `shiftbench score dry_run=true` estimates a job's time, memory and disk space from
    `flops`, `weight_flops`, `engine_bytes`, `extra_weight_bytes`, `stored_bytes` and `questions`.

    reads_views: whether the method reads a model's weights through Model.views and nowhere else. Null models
    whose weights are drawn are then explained without a further copy of the model in memory.
    """

    reads_views: ClassVar[bool] = False

    @abstractmethod
    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """One Work for each unit of the explanation, in order. A Work computes its unit when it is run, not before.

        An override's docstring names the arrays of a unit, with shapes and dtypes.
        """

    def check_source(self, source: ModelSource) -> None:
        """Raise InputError where this method cannot explain the model of this source, before its weights are read.

        By default every source is accepted.
        """

    def check_model(self, model: Model) -> None:
        """Raise InputError where this method cannot explain this loaded model. By default every model is accepted."""

    def check_words(self, option: str, vocabulary: Vocabulary, vectors: StaticVectors | None) -> None:
        """Raise InputError where this method cannot use the vocabulary or the word vectors; by default none is refused.

        option: the key of this method's options in the configuration, for the message, for example
        'findings.instruction_verbs.explain'. vectors: None where the model's own input embeddings are used instead.
        """

    def own_prompts(self, prompts: Sequence[Prompt]) -> Sequence[Prompt] | None:
        """The prompts that this method explains instead of the job's prompts, and that it makes from them.

        prompts: the job's prompts. None, the default: the method explains the job's prompts as they are.
        """
        return None

    def methods_used(self) -> Sequence[Method | Annotator]:
        """Further methods and annotators that this method's units depend on.

        Their versions are recorded together with the version of this method. Default: none.
        """
        return ()

    def unchanged(self, base: Model, tuned: Model, inputs: Inputs) -> frozenset[str]:
        """Names of the units that are the same for base and tuned, because all weights that they depend on are equal.

        Tuned's units are meant as they are where its components are read in base's word embeddings (`Inputs.read_in`).
        For null models of a control with `Control.keeps_unchanged`, base's units of these names are taken and not
        computed again. inputs: those of tuned's explanation. By default no unit is named.
        """
        return frozenset()

    def notes(self) -> list[str]:
        """Notes for the report on what this method has computed so far in this process."""
        return []

    def flops(self, shape: ModelShape, prompt_tokens: Sequence[int], response_tokens: int) -> float:
        """The approximate number of floating-point operations to explain one model on these prompts.

        shape: of the model. prompt_tokens: the length of each prompt. response_tokens: the length of every response.
        """
        return 0.0

    def weight_flops(self, shape: ModelShape, words: int) -> float:
        """The approximate number of floating-point operations to explain one model's weights.

        shape: of the model. words: the number of words in the vocabulary. The dry run counts it for each null model,
        and for neither base nor tuned.
        """
        return 0.0

    def engine_bytes(self, device: torch.device) -> int:
        """The most memory, in bytes, that the engine fills on this device for this method, besides the weights."""
        return 0

    def extra_weight_bytes(self, shape: ModelShape) -> float:
        """The memory, in bytes, of the second copy of a model's weights that this method keeps in another precision.

        0: it keeps none.
        """
        return 0.0

    def stored_bytes(self, shape: ModelShape) -> float:
        """The approximate size, in bytes, of one model's units in the store, such as the units of layers.

        Units of prompts are not counted here; the dry run estimates them from the prompts.
        """
        return 0.0

    def questions(self, shapes: Sequence[ModelShape]) -> str | None:
        """A line for the dry run: how many questions a chat model may be asked to explain models of these shapes.

        None: no chat model is asked.
        """
        return None


class PairExplainer(Method):
    """A method that computes one explanation from both models of a pair, which are both loaded."""

    @abstractmethod
    def work(self, base: Model, tuned: Model) -> list[Work]:
        """One Work for each unit of the pair's explanation, in order. A Work computes its unit when it is run."""


class WeightExplainer(Method):
    """A method that computes one explanation of a pair from the weight files of both models, tensor by tensor.

    No model is loaded for it.
    """

    @abstractmethod
    def work(self, base: Weights, tuned: Weights) -> list[Work]:
        """One Work for each unit of the pair's explanation, in order. A Work reads its tensors when it is run."""
