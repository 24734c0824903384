"""Global explanation of self-attention: word pairs that neuron pairs of a head encode.

Wu et al. 2023, section 3.2; docs/mathematics.md, 'Word pairs of attention heads'.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.contracts.explainer import Explainer, Inputs
from shiftbench.explain.keys import method_content
from shiftbench.models import Model, ModelShape
from shiftbench.readers.numbers import check_number, check_whole
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work
from shiftbench.words import StaticVectors, Vocabulary, word_embeddings


class WordPair(NamedTuple):
    """Two words that co-occur, and that activate the two sides of a neuron pair with the same sign.

    Each is among the k words with the largest absolute activation of its side. head, neuron: which head and which
    neuron pair of it. query_word, key_word: the word of the query side and the one of the key side. score: the cosine
    of their static vectors.
    """

    head: int
    neuron: int
    query_word: str
    key_word: str
    score: float


@dataclass(frozen=True)
class LayerPairs:
    """The word pairs of all heads of a layer, ordered by head, then neuron pair, then descending score.

    words: the vocabulary's words. head_N, neuron_N: the head and the neuron pair of each word pair. query_N, key_N:
    indices of its two words in `words`. score_N: the cosine of their static vectors. Iterating gives WordPair.
    """

    words: tuple[str, ...]
    head_N: Tensor
    neuron_N: Tensor
    query_N: Tensor
    key_N: Tensor
    score_N: Tensor

    def __len__(self) -> int:
        return len(self.head_N)

    def __iter__(self) -> Iterator[WordPair]:
        columns = (self.head_N, self.neuron_N, self.query_N, self.key_N, self.score_N)
        for head, neuron, query, key, score in zip(*(column.tolist() for column in columns), strict=True):
            yield WordPair(head, neuron, self.words[query], self.words[key], score)


class Cooccurrence:
    """Which words of a vocabulary co-occur: the cosine of their static vectors is above both words' cutoffs.

    A word's cutoff is the mean of its cosines with the reference words (with itself too, if it is one), plus
    `deviations` times the population standard deviation of these cosines. Reference words are those of the vocabulary's
    first `reference` words that have a vector. A word without a vector co-occurs with no word. Two words that are equal
    in lower case do not co-occur. cutoff_V: the cutoffs, float64; inf for a word without a vector. cooccurring: what
    `ops.cooccurrence` returns. docs/mathematics.md, 'Word pairs of attention heads'.
    """

    def __init__(
        self, words: tuple[str, ...], vectors: StaticVectors, reference: int, deviations: float,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        vectors_VG, known_V = (found.to(device) for found in vectors.lookup(words))
        unit_VG = torch.nn.functional.normalize(vectors_VG.float(), dim=1)
        mean_V, std_V = _mean_and_std(unit_VG, unit_VG[:reference][known_V[:reference]])
        self.cutoff_V = mean_V + deviations * std_V
        self.cutoff_V[~known_V] = torch.inf
        self.cooccurring = ops.cooccurrence(unit_VG, self.cutoff_V, _spellings(words)[1].to(device))


@lru_cache(maxsize=1)  # base and tuned have the same words and static vectors, so the second one reuses the result
def _cooccurrence(
    words: tuple[str, ...], vectors: StaticVectors, reference: int, deviations: float, device: torch.device
) -> Cooccurrence:
    return Cooccurrence(words, vectors, reference, deviations, device)


def _mean_and_std(unit_VG: Tensor, reference_NG: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation, float64 [V], of each vector's inner products with the reference vectors.

    They are computed from the mean and covariance of the reference vectors, in about (V + N) x G x G operations;
    computing the inner products would take V x N x G. G: the width of a vector. N: the number of reference vectors.
    """
    mean_G = reference_NG.double().mean(0)
    centred_NG = reference_NG.double() - mean_G
    covariance_GG = centred_NG.T @ centred_NG / len(reference_NG)
    float64_parts = [part_VG.double() for part_VG in unit_VG.split(4096)]
    mean_V = torch.cat([part_VG @ mean_G for part_VG in float64_parts])
    variance_V = torch.cat([((part_VG @ covariance_GG) * part_VG).sum(1) for part_VG in float64_parts])
    return mean_V, variance_V.clamp(min=0).sqrt()


@lru_cache(maxsize=1)  # every layer needs the spellings of the same vocabulary
def _spellings(words: tuple[str, ...]) -> tuple[list[str], Tensor]:
    """(the distinct lower-cased words, sorted by code points, spelling_V: the index of each word's spelling there)."""
    lowered = [word.lower() for word in words]
    ordered = sorted(set(lowered))
    index_of = {word: i for i, word in enumerate(ordered)}
    return ordered, torch.tensor([index_of[word] for word in lowered], dtype=torch.int64)


@dataclass(frozen=True)
class WordPairs(Explainer):
    """The word pairs that a model's self-attention heads encode.

    k: how many words are taken on each side of a neuron pair: those with the largest absolute activation. reference,
    deviations: options of the test whether two words co-occur; Cooccurrence describes them.
    """

    k: int
    reference: int
    deviations: float
    method: ClassVar[str] = "word_pairs"
    version: ClassVar[int] = 1
    reads_views: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("k", "reference"):
            check_whole(f"word_pairs: {name}", getattr(self, name), 1)
        check_number("word_pairs: deviations", self.deviations)

    def check_words(self, option: str, vocabulary: Vocabulary, vectors: StaticVectors | None) -> None:
        """Raise InputError where the vocabulary has fewer than k words; it names `option`.k. vectors is not used."""
        vocabulary.check_size(self.k, f"{option}.k")

    def unchanged(self, base: Model, tuned: Model, inputs: Inputs) -> frozenset[str]:
        """Names of the layers whose query and key weights are equal in both models; none if input embeddings differ."""
        first, second = base.views, tuned.views
        if not torch.equal(first.embedding_in_VD().cpu(), second.embedding_in_VD().cpu()):
            return frozenset()
        return frozenset(
            f"layer {layer}"
            for layer in range(first.layers)
            if torch.equal(first.query_HDE(layer).cpu(), second.query_HDE(layer).cpu())
            and torch.equal(first.key_HDE(layer).cpu(), second.key_HDE(layer).cpu())
        )

    def weight_flops(self, shape: ModelShape, words: int) -> float:
        """Operations, over all layers, of all words times query and key weights, as if both were [width, width]."""
        return 4.0 * shape.layers * words * shape.width**2

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit for each layer: the word pairs that each head knows, and the number of all its word pairs.

        head_N, count_N (int32), words `first` and `second`: for each known pair its head, how often it occurs in the
        head, and its two words, as `head_knowledge` returns them. pairs_H (int64): how many word pairs the neuron pairs
        of each head have in all, equal ones counted each time.
        """
        vectors = inputs.vectors
        common = {
            **method_content(self, model, {"k": self.k, "reference": self.reference, "deviations": self.deviations}),
            "vocabulary": inputs.vocabulary.digest,
            "vectors": "input embeddings" if vectors is None else vectors.digest,
        }
        prepared = Prepared(self, model, inputs)
        return [
            Work(f"layer {layer}", {**common, "layer": layer}, lambda layer=layer: self._unit(prepared, layer))  # type: ignore[misc]
            for layer in range(model.views.layers)
        ]

    def _unit(self, prepared: Prepared, layer: int) -> Unit:
        found = prepared.pairs(layer)
        knowledge = head_knowledge(found)
        heads = prepared.model.views.heads
        arrays = {
            "head_N": torch.tensor([head for head, _, _, _ in knowledge], dtype=torch.int32),
            "count_N": torch.tensor([count for _, _, _, count in knowledge], dtype=torch.int32),
            "pairs_H": torch.bincount(found.head_N, minlength=heads),
        }
        return Unit(arrays, {"first": [a for _, a, _, _ in knowledge], "second": [b for _, _, b, _ in knowledge]})


class Prepared:
    """Word embeddings and co-occurrence, which all layers of one model share; computed when `pairs` is first called."""

    def __init__(self, method: WordPairs, model: Model, inputs: Inputs) -> None:
        self.method, self.model, self.inputs = method, model, inputs
        self._shared: tuple[Tensor, Cooccurrence] | None = None

    def pairs(self, layer: int) -> LayerPairs:
        """The word pairs of every neuron pair of a layer, on the CPU."""
        embedding_VD, cooccurrence = self._prepare()
        views = self.model.views
        query_HDE, key_HDE = (side.to(embedding_VD.device) for side in (views.query_HDE(layer), views.key_HDE(layer)))
        query, key = self._top_words(embedding_VD, query_HDE, key_HDE)
        row_N, query_N, key_N, score_N = ops.word_pairs(cooccurrence.cooccurring, *query, *key)
        neurons = query_HDE.shape[2]
        columns = (row_N // neurons, row_N % neurons, query_N, key_N, score_N.float())
        return LayerPairs(self.inputs.vocabulary.words, *(column.cpu() for column in columns))

    def _top_words(self, embedding_VD: Tensor, *sides_HDE: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (value_CK, index_CK) for each side, as ops.vocab_topk returns them.

        They are the k words with the largest absolute activation of each neuron. Row C = head * (width of a head) +
        neuron. With grouped-query attention, neighbouring heads may have the same key weights. The words of equal
        neighbours are computed once and repeated.
        """
        new_H = [_differs_from_previous(weight_HDE) for weight_HDE in sides_HDE]
        direction_CD = torch.cat(
            [side_HDE[new].transpose(1, 2).flatten(0, 1) for side_HDE, new in zip(sides_HDE, new_H, strict=True)]
        )
        found = ops.vocab_topk(embedding_VD, direction_CD.to(embedding_VD), self.method.k)
        lengths = [int(new.sum()) * side_HDE.shape[2] for side_HDE, new in zip(sides_HDE, new_H, strict=True)]
        for side_HDE, new, *side in zip(sides_HDE, new_H, *(part.split(lengths) for part in found), strict=True):
            value_CK, index_CK = (
                part_CK.unflatten(0, (-1, side_HDE.shape[2]))[new.cumsum(0) - 1].flatten(0, 1) for part_CK in side
            )
            yield value_CK, index_CK

    def _prepare(self) -> tuple[Tensor, Cooccurrence]:
        if self._shared is None:
            words = self.inputs.vocabulary.words
            embedding_VD = ops.to_supported_device(self.model.views.embedding_in_VD())
            embedding_VD = word_embeddings(embedding_VD, self.model.tokenizer, words)
            cutoff_options = self.method.reference, self.method.deviations, embedding_VD.device
            if self.inputs.vectors is not None:
                self._shared = embedding_VD, _cooccurrence(words, self.inputs.vectors, *cutoff_options)
            else:
                vectors = StaticVectors.from_embeddings(words, embedding_VD.cpu())
                self._shared = embedding_VD, Cooccurrence(words, vectors, *cutoff_options)
        return self._shared


def _differs_from_previous(weight_HDE: Tensor) -> Tensor:
    """bool [H]: whether a head's weights differ from those of the head before it; True for the first head."""
    return torch.tensor([h == 0 or not torch.equal(weight_HDE[h], weight_HDE[h - 1]) for h in range(len(weight_HDE))])


def head_knowledge(pairs: LayerPairs) -> list[tuple[int, str, str, int]]:
    """(head, first word, second word, count) of each word pair that a head knows, ordered by head, then by the words.

    A head knows a pair that occurs more than once in the lists of all its neuron pairs together; count says how often.
    Words are compared and returned in lower case, and which side a word is of does not count: the first word is the one
    that sorts first by code points.
    """
    ordered, spelling_V = _spellings(pairs.words)
    query_N, key_N = spelling_V[pairs.query_N], spelling_V[pairs.key_N]
    first_N, second_N = torch.minimum(query_N, key_N), torch.maximum(query_N, key_N)
    code_N = (pairs.head_N * len(ordered) + first_N) * len(ordered) + second_N
    known_N, count_N = np.unique(code_N.numpy(), return_counts=True)
    known_N, count_N = known_N[count_N > 1], count_N[count_N > 1]
    rest_N, second = np.divmod(known_N, len(ordered))
    head, first = np.divmod(rest_N, len(ordered))
    rows = zip(*(column.tolist() for column in (head, first, second, count_N)), strict=True)
    return [(h, ordered[a], ordered[b], count) for h, a, b, count in rows]
