"""Annotators: they give labels to concepts from the concepts' words alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from shiftbench.store.explanation import Unit
from shiftbench.words import StaticVectors, Vocabulary


class Annotator(ABC):
    """Gives each concept its labels.

    labels: all labels that it can give. method, version: recorded beside every score that depends on its labels.
    """

    labels: ClassVar[tuple[str, ...]]
    method: ClassVar[str]
    version: ClassVar[int]

    @property
    @abstractmethod
    def digest(self) -> str:
        """sha256 (hex) of all that its labels depend on, besides the concepts and the vectors."""

    @property
    def seed_words(self) -> tuple[str, ...]:
        """Words of its own that need a vector; none unless an annotator says so."""
        return ()

    @abstractmethod
    def check(self, vectors: StaticVectors | None) -> None:
        """Raise InputError, before any work, where it could not annotate. vectors: None for a model's embeddings."""

    @abstractmethod
    def annotate(self, concepts: Sequence[Sequence[str]], vectors: StaticVectors, vocabulary: Vocabulary) -> Unit:
        """label_CL (bool), or label_SCL and answered_SC (bool) of one that reads each concept S times; words label [L].

        concepts: C lists of equally many words, the most telling first.
        """

    def questions(self, concepts: int) -> str | None:
        """A line that says how many questions so many concepts take; None where it asks nobody."""
        return None
