"""Global explanation of feed-forward networks: concepts that principal components encode (section 3.3; DESIGN 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.errors import InputError
from shiftbench.explain.work import Inputs, Work, made_by
from shiftbench.explanation import Unit
from shiftbench.models import Model
from shiftbench.words import StaticVectors, Vocabulary, word_embeddings


class Annotator(Protocol):
    """Names and labels of concepts, from their words alone."""

    labels: Sequence[str]

    @property
    def digest(self) -> str: ...

    @property
    def seed_words(self) -> tuple[str, ...]: ...

    def __call__(self, concepts: Sequence[Sequence[str]], vectors: StaticVectors, vocabulary: Vocabulary) -> Tensor: ...


@dataclass(frozen=True)
class Concepts:
    """The concepts that a model's feed-forward networks encode, and their labels.

    rank: components looked at, at most half of the width. top: words of each. annotator: gives the labels.
    """

    rank: int
    top: int
    annotator: Annotator
    method: ClassVar[str] = "concepts"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("rank", "top"):
            if getattr(self, name) < 1:
                raise InputError(f"concepts: {name}={getattr(self, name)} must be at least 1")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit a layer: component_CD, variance_ratio_C, value_CK, index_CK, label_CL; words word (C x K), label."""
        options: dict[str, Any] = {"rank": self.rank, "top": self.top, "annotator": self.annotator.digest}
        common = {
            **made_by(self, model, options),
            "vocabulary": inputs.vocabulary.digest,
            "vectors": "input embeddings" if inputs.vectors is None else inputs.vectors.digest,
        }
        shared = Shared(model, inputs, self.annotator.seed_words)
        return [
            Work(f"layer {layer}", {**common, "layer": layer}, lambda layer=layer: self._unit(shared, layer))  # type: ignore[misc]
            for layer in range(model.views.layers)
        ]

    def _unit(self, shared: Shared, layer: int) -> Unit:
        component_CD, variance_ratio_C = principal_components(shared.model.views.down_FD(layer), self.rank)
        value_CK, index_CK = component_words(shared.unit_VD, component_CD, self.top)
        words = shared.inputs.vocabulary.words
        concepts = [[words[i] for i in row] for row in index_CK.tolist()]
        arrays = {
            "component_CD": component_CD.float(),
            "variance_ratio_C": variance_ratio_C.float(),
            "value_CK": value_CK.float(),
            "index_CK": index_CK.int(),
            "label_CL": self.annotator(concepts, shared.vectors, shared.inputs.vocabulary),
        }
        return Unit(arrays, {"word": [w for row in concepts for w in row], "label": list(self.annotator.labels)})


class Shared:
    """What all layers of one model share, made when the first layer needs it."""

    def __init__(self, model: Model, inputs: Inputs, seed_words: tuple[str, ...]) -> None:
        self.model, self.inputs, self.seed_words = model, inputs, seed_words

    @cached_property
    def unit_VD(self) -> Tensor:
        return unit_word_embeddings(self.model, self.inputs.vocabulary.words)

    @cached_property
    def vectors(self) -> StaticVectors:
        """Static vectors, or the model's own input embeddings of the vocabulary and of the annotator's words."""
        if self.inputs.vectors is not None:
            return self.inputs.vectors
        words = (*self.inputs.vocabulary.words, *self.seed_words)
        embedding_VD = word_embeddings(self.model.views.embedding_in_VD().cpu(), self.model.tokenizer, words)
        return StaticVectors.from_embeddings(words, embedding_VD)


def unit_word_embeddings(model: Model, words: tuple[str, ...]) -> Tensor:
    """Output embeddings of words, unit_VD: rows of length 1."""
    embedding_VD = word_embeddings(ops.placed(model.views.embedding_out_VD()), model.tokenizer, words)
    return torch.nn.functional.normalize(embedding_VD, dim=1)


def component_words(unit_VD: Tensor, component_CD: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """(value_CK, index_CK), on the CPU, of the words with the largest |projection| on each component."""
    value_CK, index_CK = ops.vocab_topk(unit_VD, component_CD.to(unit_VD), top)
    return value_CK.cpu(), index_CK.cpu()


def principal_components(down_FD: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(component_CD, variance_ratio_C), float64, of the centred rows; C = min(rank, D // 2), largest variance first.

    Eigenvectors of the D x D covariance in float64: faster than a float32 SVD of the rows and exacter (DESIGN 4).
    A component's sign is free; its largest entry is made positive.
    """
    centred_FD = down_FD.to(torch.float64, copy=True)
    centred_FD -= centred_FD.mean(0)
    variance_D, vector_DD = torch.linalg.eigh(_lower_gram(centred_FD), UPLO="L")
    count = min(rank, centred_FD.shape[1] // 2)
    component_CD = vector_DD.flip(1)[:, :count].T.contiguous()
    largest_C1 = component_CD.abs().argmax(1, keepdim=True)
    component_CD *= component_CD.gather(1, largest_C1).sign()
    return component_CD.cpu(), (variance_D.flip(0)[:count] / variance_D.sum()).clamp(min=0).cpu()


def _lower_gram(rows_FD: Tensor, parts: int = 8) -> Tensor:
    """rows^T rows on and below the diagonal, zeros beyond its blocks: 9/16 of the product's operations."""
    width = rows_FD.shape[1]
    gram_DD = rows_FD.new_zeros(width, width)
    edges = [width * i // parts for i in range(parts + 1)]
    for begin, end in pairwise(edges):
        torch.mm(rows_FD[:, begin:].T, rows_FD[:, begin:end], out=gram_DD[begin:, begin:end])
    return gram_DD
