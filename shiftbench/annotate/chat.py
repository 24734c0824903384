"""Labels of concepts by a chat model behind an OpenAI-compatible endpoint, several times over (docs/mathematics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from shiftbench.annotate import questions
from shiftbench.annotate.asking import Asker, Asking, check_client, finished, gathered
from shiftbench.contracts.annotator import Annotator
from shiftbench.store.explanation import Unit, content_key
from shiftbench.words import StaticVectors, Vocabulary

QUESTIONS = 2  # a concept and seed: what is it, and which labels are that
Read = tuple[str, "frozenset[str] | None"]  # a description, and labels where they could be read


@dataclass
class ChatAnnotator(Asker, Annotator):
    """Asks a model what a concept's words share, then which linguistic levels and user tasks that is."""

    option: ClassVar[str] = "annotate"
    wording: ClassVar[int] = questions.VERSION
    labels: ClassVar[tuple[str, ...]] = questions.LABELS
    method: ClassVar[str] = "openai"
    version: ClassVar[int] = 1

    @property
    def digest(self) -> str:
        """sha256 (hex) of the method, the model's name, the seeds and the questions; never of an address."""
        asked = self.asked().content(questions.label(["word"], "description"), 0)
        content = {"method": self.method, "version": self.version, "seeds": list(self.seeds), "asked": asked}
        return content_key({**content, "first": questions.describe(["word"])})

    def check(self, vectors: StaticVectors | None) -> None:
        """Refuse, by InputError, what can be refused before any question: no client, no model, no endpoint."""
        check_client(self.option, self.model)

    def questions(self, concepts: int) -> str:
        """Of so many concepts, where the store answers none."""
        count = QUESTIONS * len(self.seeds) * concepts
        return f"at most {count} questions to {self.model}; a run may ask {self.budget}"

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
        asking = self.asking()
        return await gathered(asking, [_read(asking, words, seed) for seed in self.seeds for words in concepts])


async def _read(asking: Asking, words: Sequence[str], seed: int) -> Read:
    description = " ".join((await asking.answer(questions.describe(words), seed)).split())
    return description, questions.read_labels(await asking.answer(questions.label(words, description), seed))
