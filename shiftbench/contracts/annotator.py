"""Annotator: assigns labels to concepts. A concept is a list of words, and nothing else about it is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from shiftbench.store.explanation import Unit
from shiftbench.words import StaticVectors, Vocabulary


class Annotator(ABC):
    """Assigns labels to concepts.

    labels: all labels that the annotator can assign. method, version: the annotator's name and version, recorded with
    every score that depends on its labels.
    """

    labels: ClassVar[tuple[str, ...]]
    method: ClassVar[str]
    version: ClassVar[int]

    @property
    @abstractmethod
    def digest(self) -> str:
        """sha256 (hex) of everything that the labels depend on besides the concepts and the word vectors."""

    @property
    def seed_words(self) -> tuple[str, ...]:
        """Words that the annotator compares concepts with, and that need a vector too; default: none."""
        return ()

    @abstractmethod
    def check(self, vectors: StaticVectors | None) -> None:
        """Raise InputError, before any work begins, where the annotator cannot annotate.

        vectors: static word vectors; None where the model's own input embeddings are used instead.
        """

    @abstractmethod
    def annotate(self, concepts: Sequence[Sequence[str]], vectors: StaticVectors, vocabulary: Vocabulary) -> Unit:
        """The labels of C concepts: a unit with the array label_CL (bool) and the words `label` (the L labels).

        An annotator that reads each concept S times returns label_SCL and answered_SC (both bool) instead.
        concepts: C lists of equally many words, the words that best describe the concept first.
        """

    def questions(self, concepts: int) -> str | None:
        """A line for the dry run: how many questions this many concepts take; None: no chat model is asked."""
        return None
