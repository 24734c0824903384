"""Global explanation of feed-forward networks: concepts that principal components encode.

Wu et al. 2023, section 3.3; docs/mathematics.md, 'Concepts of feed-forward networks'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal, lapack
from torch import Tensor

from shiftbench import ops
from shiftbench.contracts.annotator import Annotator
from shiftbench.contracts.explainer import Explainer, Inputs
from shiftbench.errors import InputError
from shiftbench.explain.keys import method_content
from shiftbench.models import Model, ModelShape
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work
from shiftbench.words import StaticVectors, Vocabulary, word_embeddings


@dataclass(frozen=True)
class Concepts(Explainer):
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

    def check_words(self, option: str, vocabulary: Vocabulary, vectors: StaticVectors | None) -> None:
        """Raise InputError where the vocabulary has fewer than `top` words, or the annotator cannot use the vectors."""
        self.annotator.check(vectors)
        vocabulary.check_size(self.top, f"{option}.top")

    def methods_used(self) -> Sequence[Annotator]:
        """The annotator."""
        return (self.annotator,)

    def stored_bytes(self, shape: ModelShape) -> float:
        """Of the components, float32."""
        return 4.0 * shape.layers * self._components(shape) * shape.width

    def questions(self, shapes: Sequence[ModelShape]) -> str | None:
        """Of an annotator that asks a chat model."""
        return self.annotator.questions(sum(shape.layers * self._components(shape) for shape in shapes))

    def _components(self, shape: ModelShape) -> int:
        return min(self.rank, shape.width // 2)

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit a layer: component_CD, variance_ratio_C, value_CK, index_CK, words word [C x K], and the labels."""
        options: dict[str, Any] = {"rank": self.rank, "top": self.top, "annotator": self.annotator.digest}
        common = {
            **method_content(self, model, options),
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
        }
        given = self.annotator.annotate(concepts, shared.vectors, shared.inputs.vocabulary)
        word = [word for row in concepts for word in row]
        return Unit({**arrays, **given.arrays}, {"word": word, **given.words})


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
    embedding_VD = word_embeddings(ops.to_supported_device(model.views.embedding_out_VD()), model.tokenizer, words)
    return torch.nn.functional.normalize(embedding_VD, dim=1)


def component_words(unit_VD: Tensor, component_CD: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """(value_CK, index_CK), on the CPU, of the words with the largest |projection| on each component."""
    value_CK, index_CK = ops.vocab_topk(unit_VD, component_CD.to(unit_VD), top)
    return value_CK.cpu(), index_CK.cpu()


def principal_components(down_FD: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(component_CD, variance_ratio_C), float64, of the centred rows; C = min(rank, D // 2), largest variance first.

    Eigenvectors of the D x D covariance in float64: faster and more exact than a float32 SVD of the rows
    (docs/mathematics.md, 'Concepts of feed-forward networks'). A component's sign is free; its largest entry is made
    positive.
    """
    centred_FD = down_FD.to(torch.float64, copy=True)
    centred_FD -= centred_FD.mean(0)
    gram_DD = _upper_gram(centred_FD)
    variance_C, component_CD = leading_eigenvectors(gram_DD, min(rank, len(gram_DD) // 2))
    largest_C1 = component_CD.abs().argmax(1, keepdim=True)
    component_CD *= component_CD.gather(1, largest_C1).sign()
    return component_CD.cpu(), (variance_C / gram_DD.diagonal().sum()).clamp(min=0).cpu()


def _upper_gram(rows_FD: Tensor, parts: int = 8) -> Tensor:
    """rows^T rows on and above the diagonal, zeros beyond its blocks: 9/16 of the product's operations."""
    width = rows_FD.shape[1]
    gram_DD = rows_FD.new_zeros(width, width)
    for begin, end in pairwise(width * i // parts for i in range(parts + 1)):
        torch.mm(rows_FD[:, begin:end].T, rows_FD[:, begin:], out=gram_DD[begin:end, begin:])
    return gram_DD


def leading_eigenvectors(upper_DD: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(value_C, vector_CD) of the largest eigenvalues, largest first; of a symmetric matrix the upper triangle is read.

    On the CPU by LAPACK's parts: eigh has a step that brings all D eigenvectors back from the tridiagonal matrix, and
    only the leading ones are wanted.
    """
    if upper_DD.is_cuda or len(upper_DD) < 8:
        value_D, vector_DD = torch.linalg.eigh(upper_DD, UPLO="U")
        return value_D.flip(0)[:count], vector_DD.flip(1)[:, :count].T.contiguous()
    lower = upper_DD.numpy().T  # the same memory, column after column
    reduced, diagonal, beside, tau = _checked(lapack.dsytrd(lower, lower=1, lwork=32 * len(lower)))
    if 4 * count < len(lower):  # the vectors asked for, one by one
        first = len(lower) - count
        value, vector = eigh_tridiagonal(diagonal, beside, select="i", select_range=(first, len(lower) - 1))
    else:  # all of them, faster than half of them one by one
        value, vector = _checked(lapack.dstevd(diagonal, beside))
    leading = np.array(vector[:, : -count - 1 : -1], order="F")  # a copy: torch takes no strides below 0
    # The reflections that made the matrix tridiagonal leave its first coordinate alone.
    leading[1:], _ = _checked(lapack.dormqr("L", "N", reduced[1:, :-1], tau, leading[1:], 64 * count))
    return torch.from_numpy(value[: -count - 1 : -1].copy()), torch.from_numpy(leading.T)


def _checked(found: tuple[Any, ...]) -> Any:
    """What a LAPACK routine returned, without its status."""
    *results, status = found
    if status != 0:
        raise RuntimeError(
            f"principal components: LAPACK gave up with status {status}; look for nan or inf in the weights"
        )
    return results
