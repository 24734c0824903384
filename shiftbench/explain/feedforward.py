"""Global explanation of feed-forward networks: concepts that principal components encode.

Wu et al. 2023, section 3.3; docs/mathematics.md, 'Concepts of feed-forward networks'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal, lapack
from torch import Tensor

from shiftbench.contracts.annotator import Annotator
from shiftbench.contracts.explainer import Explainer, Inputs
from shiftbench.explain.keys import method_content
from shiftbench.explain.reading import LazyReading, RandomConcepts, Reading, component_words
from shiftbench.models import Model, ModelShape
from shiftbench.readers.numbers import check_whole
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work
from shiftbench.words import StaticVectors, Vocabulary

# With fewer components in a layer than this, and no chat model to ask, the words of all layers are found together.
FEW = 200
# The stream of random numbers from which the directions of random_label_CL are drawn. The directions that an annotator
# compares with are drawn from stream 0.
CHECKED = 1


@dataclass(frozen=True)
class Concepts(Explainer):
    """The concepts that a model's feed-forward networks encode, and their labels.

    rank: how many components of each layer are used; half of the model's width, rounded down, where that is less. top:
    how many words describe each component. annotator: gives labels to the concepts. Raises InputError where rank or top
    is less than 1.
    """

    rank: int
    top: int
    annotator: Annotator
    method: ClassVar[str] = "concepts"
    version: ClassVar[int] = 2
    reads_views: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("rank", "top"):
            check_whole(f"concepts: {name}", getattr(self, name), 1)

    def check_words(self, option: str, vocabulary: Vocabulary, vectors: StaticVectors | None) -> None:
        """Raise InputError where the vocabulary has fewer than `top` words, or Annotator.check does.

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
        """A line on the annotator's questions to a chat model about all layers of these models; None without any."""
        return self.annotator.questions(sum(shape.layers * self._components(shape) for shape in shapes))

    def unchanged(self, base: Model, tuned: Model, inputs: Inputs) -> frozenset[str]:
        """Names of the units of layers whose down-projections are equal in base and tuned.

        The two models' word embeddings may differ, because tuned's components are read in base's.
        """
        first, second = base.views, tuned.views
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

        variance_ratio_C: the share of the variance along each component. value_CK, index_CK (int32): projections and
        vocabulary indices of each component's words, largest |projection| first; words `word` are these C x K words.
        The labels are what Annotator.annotate returns. Floats are float32.

        own_label_CL (bool): the labels of the components as read in the model's own embeddings; only where the
        embeddings of `Inputs.read_in` count as others and `Inputs.also_own` is set. They count as others where the two
        models' weights_digest, tokenizer_digest or dtype differ. random_label_CL (bool): the labels of as many random
        directions, read as the components are; only where the embeddings do not count as others. Both arrays are left
        out where the annotator asks a chat model.
        """
        reader = inputs.read_in or model
        foreign = _embeddings_content(reader) != _embeddings_content(model)
        options: dict[str, Any] = {"rank": self.rank, "top": self.top, "annotator": self.annotator.digest}
        common = {
            **method_content(self, model, options),
            "vocabulary": inputs.vocabulary.digest,
            "vectors": "input embeddings" if inputs.vectors is None else inputs.vectors.digest,
        }
        if foreign:
            common |= {"read in": _embeddings_content(reader), "also own": inputs.also_own}
        own = LazyReading(model, inputs, self.annotator.seed_words) if foreign and inputs.also_own else None
        task = Task(self, model, inputs, LazyReading(reader, inputs, self.annotator.seed_words), own, not foreign)
        few = min(self.rank, model.views.width // 2) < FEW and self.annotator.questions(1) is None
        return [
            Work(
                f"layer {layer}",
                {**common, "layer": layer},
                lambda layer=layer: task.units([layer])[0],  # type: ignore[misc]
                task.batch if few else None,
            )
            for layer in range(model.views.layers)
        ]


@dataclass(frozen=True)
class Task:
    """The computation of units of one model. read: where its components are read as words.

    own: the model's own reading, for own_label_CL; None: without it. chance: whether units have random_label_CL.
    """

    method: Concepts
    model: Model
    inputs: Inputs
    read: LazyReading
    own: LazyReading | None
    chance: bool

    def batch(self, work: Sequence[Work]) -> Iterator[tuple[int, Unit]]:
        """Yields (index in work, unit). The words of all these layers are found and labelled together."""
        yield from enumerate(self.units([int(item.content["layer"]) for item in work]))

    def units(self, layers: Sequence[int]) -> list[Unit]:
        """The units of these layers, as `Concepts.work` describes them."""
        annotator, top = self.method.annotator, self.method.top
        found = [principal_components(self.model.views.down_FD(layer), self.method.rank) for layer in layers]
        sizes = [len(component_CD) for component_CD, _ in found]
        component_ND = torch.cat([component_CD for component_CD, _ in found])
        value_NK, index_NK = component_words(self.read.reading.unit_VD, component_ND, top)
        if annotator.questions(1) is not None:  # layer by layer, without own_label_CL and random_label_CL
            labels = [self._labels(part_CK, self.read.reading) for part_CK in index_NK.split(sizes)]
        else:
            labels = _split(self._labels(index_NK, self.read.reading), sizes)
            if self.own is not None:
                _, own_NK = component_words(self.own.reading.unit_VD, component_ND, top)
                further = _split(self._labels(own_NK, self.own.reading), sizes)
                labels = [_with(one, "own_label_CL", other) for one, other in zip(labels, further, strict=True)]
            if self.chance:
                lists = RandomConcepts(self.read.reading, top)
                random_NK = torch.cat([lists(size, layer, CHECKED) for layer, size in zip(layers, sizes, strict=True)])
                further = _split(self._labels(random_NK, self.read.reading), sizes)
                labels = [_with(one, "random_label_CL", other) for one, other in zip(labels, further, strict=True)]
        words = self.inputs.vocabulary.words
        return [
            Unit(
                {
                    "component_CD": component_CD.float(),
                    "variance_ratio_C": variance_ratio_C.float(),
                    "value_CK": value_CK.float().clone(),
                    "index_CK": index_CK.int(),
                    **label.arrays,
                },
                {"word": [words[i] for i in index_CK.flatten().tolist()], **label.words},
            )
            for (component_CD, variance_ratio_C), value_CK, index_CK, label in zip(
                found, value_NK.split(sizes), index_NK.split(sizes), labels, strict=True
            )
        ]

    def _labels(self, index_CK: Tensor, reading: Reading) -> Unit:
        """What Annotator.annotate returns for C concepts.

        index_CK: their words, as indices of the vocabulary. reading: where their components were read as words.
        """
        words, annotator = self.inputs.vocabulary.words, self.method.annotator
        concepts = [[words[i] for i in row] for row in index_CK.tolist()]
        chance = RandomConcepts(reading, self.method.top)
        return annotator.annotate(concepts, reading.vectors, self.inputs.vocabulary, chance)


def _split(labels: Unit, sizes: Sequence[int]) -> list[Unit]:
    """The labels of several layers' concepts, a unit for each layer. sizes: the number of concepts of each layer.

    labels: its arrays have the concepts as their last dimension but one, as label_CL and label_GCL have. Its words are
    those of every layer.
    """
    parts = {name: array.split(list(sizes), dim=-2) for name, array in labels.arrays.items()}
    return [Unit({name: part[i].clone() for name, part in parts.items()}, labels.words) for i in range(len(sizes))]


def _with(labels: Unit, name: str, further: Unit) -> Unit:
    """A new unit: `labels`, and the array label_CL of `further` under the name `name`."""
    return Unit({**labels.arrays, name: further.arrays["label_CL"]}, labels.words)


def _embeddings_content(model: Model) -> list[str]:
    """What stands for a model's word embeddings in a unit's content (store.work.Work).

    These are the model's weights_digest, which covers all weights, its tokenizer_digest and its dtype.
    """
    return [model.weights_digest, model.tokenizer_digest, model.dtype]


def principal_components(down_FD: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(component_CD, variance_ratio_C), float64 on the CPU, of the rows of down_FD, the largest variance first.

    The mean row is subtracted first. C = min(rank, D // 2). component_CD: unit vectors. variance_ratio_C: variance
    along each component over the total variance. The components are eigenvectors of the D x D covariance, computed in
    float64. Eigenvectors have no sign of their own; the entry of largest magnitude is made positive.
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
    each from its diagonal block on. With 8 parts that takes 9/16 of the operations of the whole product.
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
    only. On a GPU, and for D < 8, torch's eigh is called. Raises RuntimeError where an element is nan or inf, and
    RuntimeError or ValueError where there is no result.
    """
    if not upper_DD.isfinite().all():  # LAPACK gives numbers for some of these matrices, and no error
        raise RuntimeError("a matrix with nan or inf has no eigenvectors")
    if upper_DD.is_cuda or len(upper_DD) < 8:
        value_D, vector_DD = torch.linalg.eigh(upper_DD, UPLO="U")
        return value_D.flip(0)[:count], vector_DD.flip(1)[:, :count].T.contiguous()
    lower = upper_DD.numpy().T  # the same memory in Fortran's order, in which the upper triangle is the lower one
    reduced, diagonal, off_diagonal, tau = _lapack_results(lapack.dsytrd(lower, lower=1, lwork=32 * len(lower)))
    if 4 * count < len(lower):  # compute only the leading eigenvectors, each on its own
        first = len(lower) - count
        value, vector = eigh_tridiagonal(diagonal, off_diagonal, select="i", select_range=(first, len(lower) - 1))
    else:  # divide and conquer gives all eigenvectors
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
