"""Global explanation of self-attention: word pairs that neuron pairs of a head encode (section 3.2; DESIGN 3)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.errors import InputError
from shiftbench.explain.work import Inputs, Work, made_by
from shiftbench.explanation import Unit
from shiftbench.models import Model
from shiftbench.words import StaticVectors, word_embeddings


class WordPair(NamedTuple):
    """Two words that activate the two sides of a neuron pair and co-occur; score is the cosine of their vectors."""

    head: int
    neuron: int
    query_word: str
    key_word: str
    score: float


class Cooccurrence:
    """Which words of a vocabulary co-occur: cosine of static vectors above both words' own cutoffs.

    A word's cutoff is mean + deviations * std (population) of its cosine with the reference words, the vocabulary's
    first ones that have a vector. A word without a vector co-occurs with none.
    """

    def __init__(self, words: tuple[str, ...], vectors: StaticVectors, reference: int, deviations: float) -> None:
        vectors_VG, known_V = vectors.lookup(words)
        self.unit_VG = torch.nn.functional.normalize(vectors_VG.float(), dim=1)
        reference_NG = self.unit_VG[:reference][known_V[:reference]]
        cosine_VN = self.unit_VG @ reference_NG.T
        self.cutoff_V = cosine_VN.mean(1) + deviations * cosine_VN.std(1, correction=0)
        self.cutoff_V[~known_V] = torch.inf
        lowered: dict[str, int] = {}
        self.lower_V = torch.tensor([lowered.setdefault(word.lower(), len(lowered)) for word in words])

    def pairs(self, query_EK: Tensor, key_EK: Tensor) -> tuple[Tensor, Tensor]:
        """(cosine_EKK, co-occur and differ, bool EKK) of every query word with every key word of each neuron pair."""
        cosine_EKK = self.unit_VG[query_EK] @ self.unit_VG[key_EK].transpose(1, 2)
        cutoff_EKK = torch.maximum(self.cutoff_V[query_EK][:, :, None], self.cutoff_V[key_EK][:, None, :])
        differ_EKK = self.lower_V[query_EK][:, :, None] != self.lower_V[key_EK][:, None, :]
        return cosine_EKK, (cosine_EKK > cutoff_EKK) & differ_EKK


@dataclass(frozen=True)
class WordPairs:
    """The word pairs that a model's self-attention heads encode.

    k: words looked at on each side of a neuron pair. reference, deviations: the co-occurrence test (Cooccurrence).
    """

    k: int
    reference: int
    deviations: float
    method: ClassVar[str] = "word_pairs"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name in ("k", "reference"):
            if getattr(self, name) < 1:
                raise InputError(f"word_pairs: {name}={getattr(self, name)} must be at least 1")

    def work(self, model: Model, inputs: Inputs) -> list[Work]:
        """A unit a layer: the heads' knowledge (head_N, count_N; words first, second) and pairs_H before counting."""
        vectors = inputs.vectors
        common = {
            **made_by(self, model, {"k": self.k, "reference": self.reference, "deviations": self.deviations}),
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
            "pairs_H": torch.bincount(torch.tensor([p.head for p in found], dtype=torch.int64), minlength=heads),
        }
        return Unit(arrays, {"first": [a for _, a, _, _ in knowledge], "second": [b for _, _, b, _ in knowledge]})


class Prepared:
    """What all layers of one model share, made when the first layer needs it."""

    def __init__(self, method: WordPairs, model: Model, inputs: Inputs) -> None:
        self.method, self.model, self.inputs = method, model, inputs
        self._shared: tuple[Tensor, Cooccurrence] | None = None

    def pairs(self, layer: int) -> list[WordPair]:
        """Word pairs of every neuron pair of a layer, by head and neuron, each neuron's ordered by descending score."""
        embedding_VD, cooccurrence = self._prepare()
        views = self.model.views
        sides = []
        for weight_HDE in (views.query_HDE(layer).cpu(), views.key_HDE(layer).cpu()):
            heads, width, neurons = weight_HDE.shape
            direction_CD = weight_HDE.transpose(1, 2).reshape(heads * neurons, width)
            value_CK, index_CK = ops.vocab_topk(embedding_VD, direction_CD.to(embedding_VD), self.method.k)
            sides.append((value_CK.reshape(heads, neurons, -1), index_CK.reshape(heads, neurons, -1)))
        (query_value, query_index), (key_value, key_index) = sides
        found: list[WordPair] = []
        for head in range(len(query_index)):
            cosine_EKK, kept_EKK = cooccurrence.pairs(query_index[head], key_index[head])
            kept_EKK &= query_value[head][:, :, None] * key_value[head][:, None, :] > 0
            found += self._ordered(head, kept_EKK, cosine_EKK, query_index[head], key_index[head])
        return found

    def _ordered(
        self, head: int, kept_EKK: Tensor, cosine_EKK: Tensor, query_EK: Tensor, key_EK: Tensor
    ) -> list[WordPair]:
        neuron_N, i_N, j_N = kept_EKK.nonzero(as_tuple=True)
        score_N = cosine_EKK[neuron_N, i_N, j_N]
        by_score = torch.argsort(score_N, descending=True, stable=True)
        order = by_score[torch.argsort(neuron_N[by_score], stable=True)]
        words = self.inputs.vocabulary.words
        columns = (neuron_N, query_EK[neuron_N, i_N], key_EK[neuron_N, j_N], score_N)
        rows = zip(*(column[order].tolist() for column in columns), strict=True)
        return [WordPair(head, neuron, words[q], words[k], score) for neuron, q, k, score in rows]

    def _prepare(self) -> tuple[Tensor, Cooccurrence]:
        if self._shared is None:
            words = self.inputs.vocabulary.words
            embedding_VD = word_embeddings(self.model.views.embedding_in_VD().cpu(), self.model.tokenizer, words)
            vectors = self.inputs.vectors or StaticVectors.from_embeddings(words, embedding_VD)
            cooccurrence = Cooccurrence(words, vectors, self.method.reference, self.method.deviations)
            self._shared = embedding_VD, cooccurrence
        return self._shared


def head_knowledge(pairs: list[WordPair]) -> list[tuple[int, str, str, int]]:
    """(head, word, word, count) of the unordered, lower-cased pairs that occur more than once in a head's lists."""
    counts: Counter[tuple[int, str, str]] = Counter()
    for pair in pairs:
        first, second = sorted((pair.query_word.lower(), pair.key_word.lower()))
        counts[pair.head, first, second] += 1
    return [(*key, count) for key, count in sorted(counts.items()) if count > 1]
