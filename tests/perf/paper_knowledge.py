"""The paper's word pairs and components (arXiv 2310.00492), in numpy and Python, as docs/mathematics.md has them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftbench.models import Model
from shiftbench.perf.compare import Sampled
from shiftbench.perf.paper import spread
from shiftbench.store.explanation import Unit
from shiftbench.words import StaticVectors, Vocabulary, word_embeddings
from tests.perf.models import packaged

Array = NDArray[np.floating]
Knowledge = Counter[tuple[str, str]]
Heads = dict[tuple[int, int], tuple[int, Knowledge]]  # (layer, head): number of word pairs, knowledge


class Words:
    """A vocabulary's word vectors of length 1, and each word's cutoff: mean + deviations * std of its cosines."""

    def __init__(
        self, words: Sequence[str], vectors: StaticVectors, reference: int, deviations: float, keep: bool = True
    ) -> None:
        """keep: work a word's cutoff out once; else for each candidate, as the description reads word for word."""
        vectors_VG, known_V = vectors.lookup(words)
        self.words, self.known = list(words), known_V.tolist()
        self.lower = [word.lower() for word in words]
        self.unit = torch.nn.functional.normalize(vectors_VG, dim=1).numpy()
        reference_NG = self.unit[:reference][known_V[:reference].numpy()]

        def cutoff(word: int) -> float:
            cosines = reference_NG @ self.unit[word]
            return float(cosines.mean() + deviations * cosines.std())

        self.cutoff: Callable[[int], float] = cache(cutoff) if keep else cutoff


def head_knowledge(embedding_VD: Array, query_DE: Array, key_DE: Array, words: Words, k: int) -> tuple[int, Knowledge]:
    """(word pairs of all neuron pairs of a head, the unordered lower-cased ones that occur more than once)."""
    query_VE, key_VE = embedding_VD @ query_DE, embedding_VD @ key_DE
    counts: Knowledge = Counter()
    for neuron in range(query_DE.shape[1]):
        for first, second, _ in neuron_pairs(query_VE[:, neuron], key_VE[:, neuron], words, k):
            a, b = sorted((words.lower[first], words.lower[second]))
            counts[a, b] += 1
    return counts.total(), Counter({pair: count for pair, count in counts.items() if count > 1})


def neuron_pairs(query_V: Array, key_V: Array, words: Words, k: int) -> list[tuple[int, int, float]]:
    """(query word, key word, cosine) of the candidates that stay, by descending cosine."""
    kept = []
    top_keys = np.argsort(-np.abs(key_V), kind="stable")[:k]
    for q in np.argsort(-np.abs(query_V), kind="stable")[:k]:
        for w in top_keys:
            if words.lower[q] == words.lower[w] or query_V[q] * key_V[w] <= 0:
                continue
            if not (words.known[q] and words.known[w]):
                continue
            cosine = float(words.unit[q] @ words.unit[w])
            if cosine > words.cutoff(q) and cosine > words.cutoff(w):
                kept.append((int(q), int(w), cosine))
    return sorted(kept, key=lambda pair: -pair[2])


def component_words(down_FD: Tensor, unit_VD: Tensor, rank: int, top: int) -> tuple[Tensor, Tensor]:
    """(component_CD, index_CK): right singular vectors of the centred rows and the words most along each."""
    _, _, vector_DD = torch.linalg.svd(down_FD - down_FD.mean(0), full_matrices=False)
    component_CD = vector_DD[: min(rank, down_FD.shape[1] // 2)]
    return component_CD, (unit_VD @ component_CD.T).abs().argsort(dim=0, descending=True)[:top].T


def sampled_heads(
    model: Model, vocabulary: Vocabulary, vectors: StaticVectors, heads: int, keep: bool, neurons: int | None = None
) -> Sampled:
    """The paper's over some heads (or some neurons of them), as seconds for all; what all share is counted once."""
    method, views = packaged("attention"), model.views
    begin = time.perf_counter()
    embedding_VD = word_embeddings(views.embedding_in_VD(), model.tokenizer, vocabulary.words).numpy()
    words = Words(vocabulary.words, vectors, method.reference, method.deviations, keep)
    shared = time.perf_counter() - begin
    everything = [(layer, head) for layer in range(views.layers) for head in range(views.heads)]
    chosen = [everything[i] for i in spread(len(everything), heads)]
    found: Heads = {}
    begin = time.perf_counter()
    for layer, head in chosen:
        query_DE, key_DE = views.query_HDE(layer)[head, :, :neurons], views.key_HDE(layer)[head, :, :neurons]
        found[layer, head] = head_knowledge(embedding_VD, query_DE.numpy(), key_DE.numpy(), words, method.k)
    of_a_head = views.query_HDE(0).shape[2] / query_DE.shape[1]
    seconds = (time.perf_counter() - begin) * len(everything) / len(chosen) * of_a_head
    part = f"extrapolated from {len(chosen)} of {len(everything)} heads"
    return Sampled(found, shared + seconds, part + (f", {neurons} neurons" if neurons else ""))


def of_head(unit: Unit, head: int) -> tuple[int, Knowledge]:
    """(word pairs, knowledge) of one head in a layer's unit."""
    rows = zip(
        unit.arrays["head_N"].tolist(), unit.words["first"], unit.words["second"], unit.arrays["count_N"].tolist(),
        strict=True,
    )  # fmt: skip
    return int(unit.arrays["pairs_H"][head]), Knowledge({(a, b): n for h, a, b, n in rows if h == head})
