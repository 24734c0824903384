"""Names and labels of concepts from their words alone: deterministic, offline (docs/mathematics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from shiftbench.annotate.lexicon import LEVELS, TASKS, Lexicon, lexicon_of, without_seed
from shiftbench.contracts.annotator import Annotator
from shiftbench.errors import InputError
from shiftbench.store.explanation import Unit, content_key
from shiftbench.words import StaticVectors, Vocabulary, word_lists


@dataclass(frozen=True)
class LexicalAnnotator(Annotator):
    """Gives a label where a concept's words have more of something than lists drawn at random from the vocabulary.

    What is compared, per label (see Lexicon.statistics):
    user tasks: mean cosine of the words' vectors with the mean vector of the task's seed words; "none" where no task is
    given. semantics: mean cosine between the words. syntax: share of words of a closed class. morphology: share of
    pairs of words with a prefix, suffix or stem in common. phonology: share of pairs with an onset or rhyme in common
    but not the stem, by spelling.

    false_alarm: share of random lists that get a given label. draws: random lists. seed: of the draws.
    """

    false_alarm: float
    draws: int
    seed: int
    labels: ClassVar[tuple[str, ...]] = (*TASKS, "none", *LEVELS)
    method: ClassVar[str] = "lexical"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm < 1:
            raise InputError(f"annotate.false_alarm={self.false_alarm} must lie between 0 and 1")
        if self.draws * self.false_alarm < 1:
            raise InputError(
                f"annotate.draws={self.draws} random lists cannot tell a false alarm of {self.false_alarm}; "
                f"take at least {round(1 / self.false_alarm)}"
            )

    @property
    def digest(self) -> str:
        """sha256 (hex) of the method, its options and its word lists."""
        content = {"method": self.method, "version": self.version, **asdict(self), "words": dict(word_lists())}
        return content_key(content)

    @property
    def seed_words(self) -> tuple[str, ...]:
        """The words that user tasks are recognised by; whoever makes vectors for this annotator includes them."""
        return tuple(dict.fromkeys(word for task in TASKS for word in word_lists()[task]))

    def check(self, vectors: StaticVectors | None) -> None:
        """Refuse vectors that hold no seed word of some task, before any work. None: a model's embeddings."""
        if vectors is None:
            return
        for task in TASKS:
            if not vectors.lookup(word_lists()[task])[1].any():
                raise without_seed(task, vectors)

    def annotate(self, concepts: Sequence[Sequence[str]], vectors: StaticVectors, vocabulary: Vocabulary) -> Unit:
        """label_CL, as calling gives it; words label [L]."""
        return Unit({"label_CL": self(concepts, vectors, vocabulary)}, {"label": list(self.labels)})

    def __call__(self, concepts: Sequence[Sequence[str]], vectors: StaticVectors, vocabulary: Vocabulary) -> Tensor:
        """bool [C, labels]: which labels each concept has.

        concepts: C lists of equally many distinct words of the vocabulary.
        Raises InputError where no seed word of a task has a vector, ValueError where concepts are not as said.
        """
        if not concepts:
            return torch.zeros(0, len(self.labels), dtype=torch.bool)
        lexicon = lexicon_of(vocabulary, vectors)
        index_CK = lexicon.index(concepts)
        cutoff_L = cutoffs(lexicon, index_CK.shape[1], self.false_alarm, self.draws, self.seed)
        given = lexicon.statistics(index_CK) > cutoff_L
        none = ~given[:, : len(TASKS)].any(1, keepdim=True)
        return torch.cat([given[:, : len(TASKS)], none, given[:, len(TASKS) :]], dim=1)

    def names(self, concepts: Sequence[Sequence[str]], vectors: StaticVectors, vocabulary: Vocabulary) -> list[str]:
        """Of each concept the word nearest to its words' mean direction; the first where none has a vector."""
        if not concepts:
            return []
        lexicon = lexicon_of(vocabulary, vectors)
        unit_CKD = lexicon.unit_VD[lexicon.index(concepts)]
        nearest_C = (unit_CKD @ unit_CKD.sum(1)[:, :, None])[:, :, 0].argmax(1)
        return [words[i] for words, i in zip(concepts, nearest_C.tolist(), strict=True)]


@lru_cache(maxsize=8)
def cutoffs(lexicon: Lexicon, size: int, false_alarm: float, draws: int, seed: int) -> Tensor:
    """[tasks + levels]: the statistic that a share of at most false_alarm of random lists of `size` words exceeds."""
    null_SL = lexicon.statistics(random_lists(len(lexicon.row), size, draws, seed))
    return torch.quantile(null_SL, 1 - false_alarm, dim=0, interpolation="higher")


def random_lists(words: int, size: int, draws: int, seed: int) -> Tensor:
    """Rows [draws, size] of distinct words: shuffled vocabularies, cut into lists.

    A shuffle sorts by the raw output of a counter-based generator, which no release of numpy changes.
    """
    per_shuffle = words // size
    shuffles = [
        np.argsort(np.random.Philox(key=[seed, i]).random_raw(words), kind="stable")[: per_shuffle * size]
        for i in range(-(-draws // per_shuffle))
    ]
    return torch.from_numpy(np.concatenate(shuffles)).reshape(-1, size)[:draws]
