"""Labels of concepts by a chat model behind an OpenAI-compatible endpoint, several times over (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from shiftbench.annotate import questions
from shiftbench.annotate.asking import Asked, Asking, Budget, check_client, finished, gathered
from shiftbench.errors import InputError
from shiftbench.explanation import Unit, content_key
from shiftbench.store import Store
from shiftbench.words import StaticVectors, Vocabulary

QUESTIONS = 2  # a concept and seed: what is it, and which labels are that
Read = tuple[str, "frozenset[str] | None"]  # a description, and labels where they could be read


@dataclass
class ChatAnnotator:
    """Asks a model what a concept's words share, then which linguistic levels and user tasks that is.

    model: as the endpoint calls it. seeds: as many readings of each concept. temperature, max_tokens: of each answer;
    None leaves the endpoint its own. concurrency: questions at once. retries: of a question. timeout: seconds.
    budget: questions that one run may ask. store: folder of explanations, where every answer is kept.
    """

    model: str | None
    seeds: Sequence[int]
    temperature: float | None
    max_tokens: int | None
    concurrency: int
    retries: int
    timeout: float
    budget: int
    store: str | None
    labels: ClassVar[tuple[str, ...]] = questions.LABELS
    seed_words: ClassVar[tuple[str, ...]] = ()
    method: ClassVar[str] = "openai"
    version: ClassVar[int] = 1
    left: Budget = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"annotate.seeds={list(self.seeds)} must name at least one seed, each once")
        for name, least in (("concurrency", 1), ("retries", 0), ("budget", 0)):
            if getattr(self, name) < least:
                raise InputError(f"annotate.{name}={getattr(self, name)} must be at least {least}")
        if not self.timeout > 0:
            raise InputError(f"annotate.timeout={self.timeout} must be more than 0 seconds")
        self.left = Budget(self.budget)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the method, the model's name, the seeds and the questions; never of an address."""
        asked = self._asked().content(questions.label(["word"], "description"), 0)
        content = {"method": self.method, "version": self.version, "seeds": list(self.seeds), "asked": asked}
        return content_key({**content, "first": questions.describe(["word"])})

    def check(self, vectors: StaticVectors | None) -> None:
        """Refuse, by InputError, what can be refused before any question: no client, no model, no endpoint."""
        check_client("annotate", self.model)

    def asks(self, concepts: int) -> int:
        """Questions about so many concepts, where the store answers none."""
        return QUESTIONS * len(self.seeds) * concepts

    def annotate(self, concepts: Sequence[Sequence[str]], vectors: StaticVectors, vocabulary: Vocabulary) -> Unit:
        """label_SCL and answered_SC, bool; words label [L], description [S x C].

        answered: whether the seed's answer could be read; where not, it gives no label. Only the words are looked at.
        Raises InputError where the endpoint fails for good or the budget is spent.
        """
        reads = finished(self._reads(concepts))
        shape = (len(self.seeds), len(concepts))
        label = torch.tensor([[name in (labels or ()) for name in self.labels] for _, labels in reads])
        answered = torch.tensor([labels is not None for _, labels in reads])
        arrays = {
            "label_SCL": label.bool().reshape(*shape, len(self.labels)),
            "answered_SC": answered.bool().reshape(shape),
        }
        return Unit(arrays, {"label": list(self.labels), "description": [description for description, _ in reads]})

    async def _reads(self, concepts: Sequence[Sequence[str]]) -> list[Read]:
        """A reading a seed and concept, seeds outermost."""
        asking = Asking(self._asked(), Store(self.store), self.left, self.concurrency, self.retries, self.timeout)
        return await gathered(asking, [_read(asking, words, seed) for seed in self.seeds for words in concepts])

    def _asked(self) -> Asked:
        return Asked(str(self.model), self.temperature, self.max_tokens, questions.VERSION)


async def _read(asking: Asking, words: Sequence[str], seed: int) -> Read:
    description = " ".join((await asking.answer(questions.describe(words), seed)).split())
    return description, questions.read_labels(await asking.answer(questions.label(words, description), seed))
