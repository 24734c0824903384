"""Annotator: assigns labels to concepts. Of a concept, an annotator is given its list of words and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor

from shiftbench.store.explanation import Unit
from shiftbench.words import StaticVectors, Vocabulary

# Called with (count, seed), it returns index_NK, int64: `count` lists of words, as indices of the vocabulary's words.
# They are what random directions are read as, in the same space as the concepts and with as many words.
RandomLists = Callable[[int, int], Tensor]


class Annotator(ABC):
    """Assigns labels to concepts; a concept can get several labels or none.

    labels: all labels that the annotator can assign. method, version: the annotator's name and version, recorded in
    scores.json together with those of the method that uses it.
    """

    labels: ClassVar[tuple[str, ...]]
    method: ClassVar[str]
    version: ClassVar[int]

    @property
    @abstractmethod
    def digest(self) -> str:
        """The SHA-256, in hex, of what labels depend on besides concepts, word vectors and vocabulary.

        It is part of the store key of every unit with labels, so another digest computes them again.
        """

    @property
    def seed_words(self) -> tuple[str, ...]:
        """Words that the annotator compares concepts with; their vectors are looked up beside the vocabulary's.

        Default: none.
        """
        return ()

    @abstractmethod
    def check(self, vectors: StaticVectors | None) -> None:
        """Raise InputError, before any work begins, where the annotator cannot annotate.

        vectors: static word vectors; None where the model's own input embeddings are used instead.
        """

    @abstractmethod
    def annotate(
        self,
        concepts: Sequence[Sequence[str]],
        vectors: StaticVectors,
        vocabulary: Vocabulary,
        chance: RandomLists | None = None,
    ) -> Unit:
        """Assigns labels to C concepts, and returns them as a unit.

        The unit has the array label_CL (bool: whether a concept has a label) and the list of strings `label` (the names
        of the L labels). It may have label_GCL (bool): the labels by each of G nearly equal parts of the annotator's
        random draws alone, whose spread shows how far the labels depend on these draws. An annotator that reads each
        concept S times returns other arrays instead: label_SCL (bool, the labels by each reading) and answered_SC
        (bool, whether the reading gave an answer that counts).

        concepts: C lists of equally many words; the words that best describe the concept come first. vectors: word
        vectors of the vocabulary's words and of `seed_words`. vocabulary: the words that concepts are made of. chance:
        returns lists of words without a concept, for annotators that compare with chance; None where nothing is known
        of the space that the concepts are from.
        """

    def questions(self, concepts: int) -> str | None:
        """A line for the dry run: how many questions a chat model may be asked about this number of concepts.

        None: no chat model is asked.
        """
        return None
