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

    rank: how many components of each layer are used; where it is more than half of the width, half of the width are
    used. top: how many words describe each component. annotator: gives labels to the concepts.
    """

    rank: int
    top: int
    annotator: Annotator
    method: ClassVar[str] = "concepts"
    version: ClassVar[int] = 1
    reads_views: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("rank", "top"):
            if getattr(self, name) < 1:
                raise InputError(f"concepts: {name}={getattr(self, name)} must be at least 1")

    def check_words(self, option: str, vocabulary: Vocabulary, vectors: StaticVectors | None) -> None:
        """Raise InputError where the vocabulary has fewer than `top` words, or the annotator cannot annotate.

        option: the key of this method's options in the configuration, for the message. vectors: static word vectors;
        None where the model's input embeddings are used instead.
        """
        self.annotator.check(vectors)
        vocabulary.check_size(self.top, f"{option}.top")

    def methods_used(self) -> Sequence[Annotator]:
        """The annotator, whose version is recorded with this method's version."""
        return (self.annotator,)

    def stored_bytes(self, shape: ModelShape) -> float:
        """Bytes of the components of all layers, in float32. The units' other arrays and words are not counted."""
        return 4.0 * shape.layers * self._components(shape) * shape.width

    def questions(self, shapes: Sequence[ModelShape]) -> str | None:
        """The annotator's line on how many questions it asks a chat model about all layers; None where it asks none."""
        return self.annotator.questions(sum(shape.layers * self._components(shape) for shape in shapes))

    def unchanged(self, base: Model, tuned: Model, inputs: Inputs) -> frozenset[str]:
        """The layers whose down-projections are equal; none where the embeddings that words are read in differ."""
        first, second = base.views, tuned.views
        embeddings = [(first.embedding_out_VD(), second.embedding_out_VD())]
        if inputs.vectors is None:
            embeddings.append((first.embedding_in_VD(), second.embedding_in_VD()))
        if not all(torch.equal(one.cpu(), other.cpu()) for one, other in embeddings):
            return frozenset()
        layers = range(first.layers)
        return frozenset(f"layer {i}" for i in layers if torch.equal(first.down_FD(i).cpu(), second.down_FD(i).cpu()))

    def weight_flops(self, shape: ModelShape, words: int) -> float:
        """Operations of the covariances, as if a layer had four neurons for each dimension, of their reduction to
        tridiagonal form, and of the products of all words with the components.
        """
        width = float(shape.width)
        return shape.layers * (4.5 * width**3 + 4 / 3 * width**3 + 2 * words * width * self._components(shape))

    def _components(self, shape: ModelShape) -> int:
        return min(self.rank, shape.width // 2)

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit for each layer: component_CD, variance_ratio_C, value_CK and index_CK, words `word`, and the labels.

        component_CD: the principal components, which `principal_components` describes. variance_ratio_C: the share of
        the variance along each component. value_CK, index_CK (int32): for each component the K = `top` words with the
        largest projections on it, as signed projections and as indices into the vocabulary. Words `word`: these C K
        words, one component after another. The labels are the arrays and words that Annotator.annotate returns. Floats
        are float32.
        """
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
        labels = self.annotator.annotate(concepts, shared.vectors, shared.inputs.vocabulary)
        word = [word for row in concepts for word in row]
        return Unit({**arrays, **labels.arrays}, {"word": word, **labels.words})


class Shared:
    """Word embeddings and word vectors that all layers of one model share; each is computed at its first use."""

    def __init__(self, model: Model, inputs: Inputs, seed_words: tuple[str, ...]) -> None:
        self.model, self.inputs, self.seed_words = model, inputs, seed_words

    @cached_property
    def unit_VD(self) -> Tensor:
        return unit_word_embeddings(self.model, self.inputs.vocabulary.words)

    @cached_property
    def vectors(self) -> StaticVectors:
        """The job's static vectors; where there are none, the model's input embeddings in their place.

        The embeddings are those of the vocabulary's words and of the annotator's seed words.
        """
        if self.inputs.vectors is not None:
            return self.inputs.vectors
        words = (*self.inputs.vocabulary.words, *self.seed_words)
        embedding_VD = word_embeddings(self.model.views.embedding_in_VD().cpu(), self.model.tokenizer, words)
        return StaticVectors.from_embeddings(words, embedding_VD)


def unit_word_embeddings(model: Model, words: tuple[str, ...]) -> Tensor:
    """unit_VD: the output embeddings of V words, scaled to length 1, on a device that the ops support."""
    embedding_VD = word_embeddings(ops.to_supported_device(model.views.embedding_out_VD()), model.tokenizer, words)
    return torch.nn.functional.normalize(embedding_VD, dim=1)


def component_words(unit_VD: Tensor, component_CD: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """(value_CK, index_CK), on the CPU: the K = `top` words with the largest |projection| on each component.

    unit_VD: the words' embeddings. value_CK: signed projections, the largest magnitude first. index_CK: int64, the
    words' rows in unit_VD.
    """
    value_CK, index_CK = ops.vocab_topk(unit_VD, component_CD.to(unit_VD), top)
    return value_CK.cpu(), index_CK.cpu()


def principal_components(down_FD: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(component_CD, variance_ratio_C), float64 on the CPU, of the rows of down_FD, the largest variance first.

    The mean row is subtracted first. C = min(rank, D // 2). component_CD: unit vectors. variance_ratio_C: variance
    along each component over the total variance. The components are eigenvectors of the D x D covariance in float64,
    which is faster and more accurate than a float32 SVD of the rows. Eigenvectors have no sign of their own; the entry
    of largest magnitude is made positive.
    docs/mathematics.md, 'Concepts of feed-forward networks'.
    """
    centred_FD = down_FD.to(torch.float64, copy=True)
    centred_FD -= centred_FD.mean(0)
    gram_DD = _upper_gram(centred_FD)
    variance_C, component_CD = leading_eigenvectors(gram_DD, min(rank, len(gram_DD) // 2))
    largest_C1 = component_CD.abs().argmax(1, keepdim=True)
    component_CD *= component_CD.gather(1, largest_C1).sign()
    return component_CD.cpu(), (variance_C / gram_DD.diagonal().sum()).clamp(min=0).cpu()


def _upper_gram(rows_FD: Tensor, parts: int = 8) -> Tensor:
    """A matrix [D, D] that has the entries of rows^T rows on and above the diagonal.

    Only these entries may be read; of those below the diagonal some are zero. The matrix is computed in blocks of rows,
    each from its diagonal block on. 8 parts take 9/16 of all operations.
    """
    width = rows_FD.shape[1]
    gram_DD = rows_FD.new_zeros(width, width)
    for begin, end in pairwise(width * i // parts for i in range(parts + 1)):
        torch.mm(rows_FD[:, begin:end].T, rows_FD[:, begin:], out=gram_DD[begin:end, begin:])
    return gram_DD


def leading_eigenvectors(upper_DD: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(value_C, vector_CD): the `count` largest eigenvalues of a symmetric matrix, descending, and their eigenvectors.

    The matrix and the results are float64, and the eigenvectors have length 1. Only the upper triangle of the matrix is
    read. On the CPU the steps of LAPACK's eigh are called one by one: reduce to a tridiagonal matrix, find its
    eigenvectors, transform them back. eigh transforms all D eigenvectors back; here it is done for the leading ones
    only. On a GPU, and for D < 8, torch's eigh is called. Raises RuntimeError where LAPACK fails.
    """
    if upper_DD.is_cuda or len(upper_DD) < 8:
        value_D, vector_DD = torch.linalg.eigh(upper_DD, UPLO="U")
        return value_D.flip(0)[:count], vector_DD.flip(1)[:, :count].T.contiguous()
    lower = upper_DD.numpy().T  # the same memory in Fortran's order, in which the upper triangle is the lower one
    reduced, diagonal, off_diagonal, tau = _lapack_results(lapack.dsytrd(lower, lower=1, lwork=32 * len(lower)))
    if 4 * count < len(lower):  # compute only the leading eigenvectors, each on its own
        first = len(lower) - count
        value, vector = eigh_tridiagonal(diagonal, off_diagonal, select="i", select_range=(first, len(lower) - 1))
    else:  # divide and conquer gives all eigenvectors faster than half of them each on its own
        value, vector = _lapack_results(lapack.dstevd(diagonal, off_diagonal))
    leading = np.array(vector[:, : -count - 1 : -1], order="F")  # a copy, because torch has no negative strides
    # The reflections that made the matrix tridiagonal do not change the first coordinate, so the first row stays.
    leading[1:], _ = _lapack_results(lapack.dormqr("L", "N", reduced[1:, :-1], tau, leading[1:], 64 * count))
    return torch.from_numpy(value[: -count - 1 : -1].copy()), torch.from_numpy(leading.T)


def _lapack_results(found: tuple[Any, ...]) -> Any:
    """The list of what a LAPACK routine returned, without the status at its end.

    Raises RuntimeError where the status is not 0.
    """
    *results, status = found
    if status != 0:
        raise RuntimeError(
            f"principal components: LAPACK failed with status {status}; look for nan or inf in the weights"
        )
    return results
