"""The word embeddings of one model, in which directions of its residual stream are read as words.

docs/mathematics.md, 'Concepts of feed-forward networks'.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from shiftbench import ops
from shiftbench.contracts.explainer import Inputs
from shiftbench.models import Model
from shiftbench.store.explanation import content_key
from shiftbench.words import StaticVectors, word_embeddings

AT_ONCE = 1000  # the most random directions that are drawn and read together
KEPT = 2  # the most readings that stay in memory, for example those of base and of tuned


class Reading:
    """The words of a vocabulary as one model embeds them.

    unit_VD: the words' output embeddings, scaled to length 1. vectors: the job's static vectors; where the job has
    none, the model's input embeddings of the vocabulary's words and of `seed_words`, which are the annotator's.
    """

    def __init__(self, model: Model, inputs: Inputs, seed_words: tuple[str, ...]) -> None:
        self.unit_VD = unit_word_embeddings(model, inputs.vocabulary.words)
        if inputs.vectors is not None:
            self.vectors = inputs.vectors
        else:
            words = (*inputs.vocabulary.words, *seed_words)
            embedding_VD = word_embeddings(model.views.embedding_in_VD().cpu(), model.tokenizer, words)
            self.vectors = StaticVectors.from_embeddings(words, embedding_VD)


@dataclass(frozen=True)
class RandomConcepts:
    """Lists of words that random directions are read as, with as many words as a concept has.

    reading: where the directions are read. top: the number of words of a list.
    """

    reading: Reading
    top: int

    def __call__(self, count: int, seed: int, stream: int = 0) -> Tensor:
        """index_NK, int64: the lists of `count` random directions, as indices of the vocabulary's words.

        The directions are uniform on the sphere. They depend on seed, stream and the model's width alone; a larger
        `count` adds directions after the same first ones.
        """
        directions = random_directions(count, self.reading.unit_VD.shape[1], seed, stream)
        return torch.cat([component_words(self.reading.unit_VD, part_ND, self.top)[1] for part_ND in directions])


class Readings:
    """Gives the reading of a model, and keeps the KEPT readings that were used last.

    Null models of a pair are all read in base's embeddings, so they share one reading. A reading is found by the
    digests of what it is computed from, and holds no model in memory.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Reading] = OrderedDict()

    def of(self, model: Model, inputs: Inputs, seed_words: tuple[str, ...]) -> Reading:
        """The reading of `model`. inputs: with the vocabulary and the static vectors. seed_words: the annotator's."""
        key = content_key(
            {
                "weights": model.weights_digest,
                "tokenizer": model.tokenizer_digest,
                "dtype": model.dtype,
                "vocabulary": inputs.vocabulary.digest,
                "vectors": inputs.vectors.digest if inputs.vectors else list(seed_words),
            }
        )
        if key not in self._kept:
            self._kept[key] = Reading(model, inputs, seed_words)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


READINGS = Readings()


@dataclass(frozen=True)
class LazyReading:
    """A reading that is computed when a unit is first computed with it: not at all where the store has all units."""

    model: Model
    inputs: Inputs
    seed_words: tuple[str, ...]

    @cached_property
    def reading(self) -> Reading:
        return READINGS.of(self.model, self.inputs, self.seed_words)


def unit_word_embeddings(model: Model, words: tuple[str, ...]) -> Tensor:
    """unit_VD: the words' output embeddings, scaled to length 1."""
    embedding_VD = word_embeddings(ops.to_supported_device(model.views.embedding_out_VD()), model.tokenizer, words)
    return torch.nn.functional.normalize(embedding_VD, dim=1)


def component_words(unit_VD: Tensor, component_CD: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """(value_CK, index_CK), on the CPU: projections and indices of the `top` words, largest |projection| first.

    They are what ops.vocab_topk returns, which also says the errors; component_CD is first given unit_VD's dtype and
    device.
    """
    value_CK, index_CK = ops.vocab_topk(unit_VD, component_CD.to(unit_VD), top)
    return value_CK.cpu(), index_CK.cpu()


def random_directions(count: int, width: int, seed: int, stream: int) -> Iterator[Tensor]:
    """Yields `count` directions in parts, float32 [at most AT_ONCE, width]: uniform on the sphere, of length 1.

    A direction is a row of normal numbers, divided by the row's length. The numbers are made by inversion from the raw
    output of a counter-based generator, which is the same in every release of numpy.
    """
    for start in range(0, count, AT_ONCE):
        rows = min(AT_ONCE, count - start)
        raw = np.random.Philox(key=[seed, stream * 2**32 + start // AT_ONCE]).random_raw(rows * width)
        normal = ndtri((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54).reshape(rows, width)
        normal /= np.sqrt((normal * normal).sum(1, keepdims=True))
        yield torch.from_numpy(normal.astype(np.float32))
