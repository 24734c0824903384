"""Gives concepts labels and names from word vectors, word lists and spelling: deterministic, offline.

docs/annotator.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from shiftbench.annotate.lexicon import LEVELS, TASKS, Lexicon, lexicon_of, without_seed
from shiftbench.contracts.annotator import Annotator, RandomLists
from shiftbench.errors import InputError
from shiftbench.store.explanation import Unit, content_key
from shiftbench.words import StaticVectors, Vocabulary, word_lists

PARTS = 10  # parts of the random lists, nearly equal in size; labels by each alone show how far they depend on the draw


@dataclass(frozen=True)
class LexicalAnnotator(Annotator):
    """Gives a concept a label where a statistic of its words is larger than for most random directions.

    Each label but "none" has a statistic (Lexicon.statistics). A user task: the mean cosine of the words' vectors with
    the mean direction of the task's seed words. semantics: the mean cosine between the words. syntax: the share of
    words of a closed class. morphology: the share of pairs of words that have a prefix, suffix or stem in common.
    phonology: the share of pairs that have an onset or rhyme in common (by spelling) but not the stem. The means leave
    out words without a vector; the vectors are centred (Lexicon). "none" is given where no user task is.

    A random direction is read as words in the same space as the concept is (`chance` of `annotate`). Words near one
    direction are alike even if the direction is random, in a model's own embeddings above all, so words drawn one by
    one would be too easy to exceed. Words are drawn one by one only where the concepts' space is not known.

    false_alarm: each label but "none" is given to at most this share of the random directions. draws: the number of
    random directions. seed: their seed.
    """

    false_alarm: float
    draws: int
    seed: int
    labels: ClassVar[tuple[str, ...]] = (*TASKS, "none", *LEVELS)
    method: ClassVar[str] = "lexical"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm < 1:
            raise InputError(f"annotate.false_alarm={self.false_alarm} must lie between 0 and 1")
        if self.draws * self.false_alarm < 1 or self.draws < PARTS:
            raise InputError(
                f"annotate.draws={self.draws} random lists are too few for a false-alarm rate of {self.false_alarm}; "
                f"take at least {max(PARTS, round(1 / self.false_alarm))}"
            )

    @property
    def digest(self) -> str:
        """The SHA-256, in hex, of the method and its version, the options and all word lists."""
        content = {"method": self.method, "version": self.version, **asdict(self), "words": dict(word_lists())}
        return content_key(content)

    @property
    def seed_words(self) -> tuple[str, ...]:
        """The seed words of all user tasks. Vectors for this annotator must include at least one of each task."""
        return tuple(dict.fromkeys(word for task in TASKS for word in word_lists()[task]))

    def check(self, vectors: StaticVectors | None) -> None:
        """Raise InputError where a user task has no seed word with a vector.

        vectors: None where a model's input embeddings are used; they are not checked here.
        """
        if vectors is None:
            return
        for task in TASKS:
            if not vectors.lookup(word_lists()[task])[1].any():
                raise without_seed(task, vectors)

    def annotate(
        self,
        concepts: Sequence[Sequence[str]],
        vectors: StaticVectors,
        vocabulary: Vocabulary,
        chance: RandomLists | None = None,
    ) -> Unit:
        """A unit with the labels of C concepts. Arguments and errors are those of __call__.

        Its arrays are bool. label_CL: whether a concept has a label. label_GCL: the same by each of the PARTS parts of
        the random lists alone. Its list of strings `label` has the names of the L labels.
        """
        label_GCL = self._labels(concepts, vectors, vocabulary, chance)
        return Unit({"label_CL": label_GCL[0], "label_GCL": label_GCL[1:]}, {"label": list(self.labels)})

    def __call__(
        self,
        concepts: Sequence[Sequence[str]],
        vectors: StaticVectors,
        vocabulary: Vocabulary,
        chance: RandomLists | None = None,
    ) -> Tensor:
        """label_CL, bool: whether each of C concepts has each of `labels`.

        concepts: C lists of words of the vocabulary, of equal length and without repetitions (which are not checked).
        chance: gives the words that random directions are read as in the concepts' space; None: random_lists are used.
        No concept gives a result of shape [0, L]. Raises InputError where a task has no seed word with a vector, and
        ValueError where lists are empty, have different lengths or have words that are not in the vocabulary.
        """
        return self._labels(concepts, vectors, vocabulary, chance)[0]

    def _labels(
        self,
        concepts: Sequence[Sequence[str]],
        vectors: StaticVectors,
        vocabulary: Vocabulary,
        chance: RandomLists | None,
    ) -> Tensor:
        """label_GCL, bool [1 + PARTS, C, L]: labels by all random lists, then by each part of them."""
        if not concepts:
            return torch.zeros(1 + PARTS, 0, len(self.labels), dtype=torch.bool)
        lexicon = lexicon_of(vocabulary, vectors)
        index_CK = lexicon.index(concepts)
        cutoff_GL = cutoffs(lexicon, chance, index_CK.shape[1], self.false_alarm, self.draws, self.seed)
        given = lexicon.statistics(index_CK) > cutoff_GL[:, None]
        none = ~given[..., : len(TASKS)].any(-1, keepdim=True)
        return torch.cat([given[..., : len(TASKS)], none, given[..., len(TASKS) :]], dim=-1)

    def names(self, concepts: Sequence[Sequence[str]], vectors: StaticVectors, vocabulary: Vocabulary) -> list[str]:
        """A name for each concept: the one of its words that is nearest to the mean direction of its words' vectors.

        The word vectors are centred (Lexicon). It is the first word where none of the words has a vector. Arguments and
        errors are those of __call__, without `chance`.
        """
        if not concepts:
            return []
        lexicon = lexicon_of(vocabulary, vectors)
        unit_CKD = lexicon.unit_VD[lexicon.index(concepts)]
        nearest_C = (unit_CKD @ unit_CKD.sum(1)[:, :, None])[:, :, 0].argmax(1)
        return [words[i] for words, i in zip(concepts, nearest_C.tolist(), strict=True)]


@lru_cache(maxsize=8)
def cutoffs(
    lexicon: Lexicon, chance: RandomLists | None, size: int, false_alarm: float, draws: int, seed: int
) -> Tensor:
    """cutoff_GL [1 + PARTS, tasks + levels]: what a concept's statistic must exceed to get the label.

    The first row's values are exceeded by at most the share `false_alarm` of `draws` random lists. Row 1 + g has the
    same of the lists g, g + PARTS, g + 2 PARTS, ... alone, with lists counted from 0. chance: gives the lists for
    `draws` and `seed`; None: random_lists of `size` words each.
    """
    index_NK = random_lists(len(lexicon.row), size, draws, seed) if chance is None else chance(draws, seed)
    null_NL = lexicon.statistics(index_NK)
    drawn = [null_NL, *(null_NL[part::PARTS] for part in range(PARTS))]
    return torch.stack([torch.quantile(rows, 1 - false_alarm, dim=0, interpolation="higher") for rows in drawn])


def random_lists(words: int, size: int, draws: int, seed: int) -> Tensor:
    """Random lists, int64 [draws, size]: each row has the indices of `size` different words of a vocabulary.

    words: the number of words in the vocabulary; at least `size`. The lists are cut from shuffled vocabularies, so
    those of one shuffle have no word in common. A shuffle sorts by the raw output of a counter-based generator, which
    is the same in every release of numpy.
    """
    per_shuffle = words // size
    shuffles = [
        np.argsort(np.random.Philox(key=[seed, i]).random_raw(words), kind="stable")[: per_shuffle * size]
        for i in range(-(-draws // per_shuffle))
    ]
    return torch.from_numpy(np.concatenate(shuffles)).reshape(-1, size)[:draws]
