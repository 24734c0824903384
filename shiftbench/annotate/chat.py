"""Labels of concepts by a chat model behind an OpenAI-compatible endpoint, once for each seed (docs/annotator.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from shiftbench.annotate import questions
from shiftbench.annotate.asking import Asker, Session, check_client, gather_answers, run_coroutine
from shiftbench.contracts.annotator import Annotator, RandomLists
from shiftbench.errors import InputError
from shiftbench.store.explanation import Unit, content_key
from shiftbench.words import StaticVectors, Vocabulary

QUESTIONS = 2  # at most, for each concept and seed: what do the words share, and which labels has this description?
PROMPTS = ("shiftbench", "paper")
Read = tuple[str, "frozenset[str] | None"]  # (description, labels); labels is None where the answer does not count


@dataclass
class ChatAnnotator(Asker, Annotator):
    """Asks a chat model what a concept's words share, and then what linguistic levels and user tasks its answer has.

    prompt: 'shiftbench': all words of a concept are shown in both questions, and both are asked even where the first
    answer says that the words share nothing. 'paper', as Wu et al.: the first question shows the first 15 words, the
    second one the description alone. Where with 'paper' the first answer says that the words share nothing, the second
    question is not asked, and the reading is not counted in any share of labels.
    """

    prompt: str
    option: ClassVar[str] = "annotate"
    wording: ClassVar[int] = questions.VERSION
    labels: ClassVar[tuple[str, ...]] = questions.LABELS
    method: ClassVar[str] = "openai"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt not in PROMPTS:
            raise InputError(f"annotate.prompt={self.prompt!r} is not known; choose from {', '.join(PROMPTS)}")

    @property
    def digest(self) -> str:
        """The SHA-256, in hex, of the method and its version, the seeds, the AnswerSettings and the questions' texts.

        The AnswerSettings name the chat model. The endpoint's address is not part of it.
        """
        settings = self.answer_settings().content(questions.label(["word"], "description"), 0)
        content = {"method": self.method, "version": self.version, "seeds": list(self.seeds), "asked": settings}
        if self.prompt == "paper":  # the digest with 'shiftbench' is what it was before there was this option
            content["prompt"] = [self.prompt, questions.PAPER_WORDS, questions.PAPER_VERSION]
        return content_key({**content, "first": self._describe(["word"])})

    def _describe(self, words: Sequence[str]) -> questions.Messages:
        return questions.describe_as_paper(words) if self.prompt == "paper" else questions.describe(words)

    def check(self, vectors: StaticVectors | None) -> None:
        """Raise InputError where the package openai, a model's name or an endpoint is missing. Sends no question.

        vectors is not used.
        """
        check_client(self.option, self.model)

    def questions(self, concepts: int) -> str:
        """A line for a dry run: the most questions that this number of concepts can take, and the budget of a run.

        Concepts whose answers are in the store take fewer.
        """
        count = QUESTIONS * len(self.seeds) * concepts
        return f"at most {count} questions to {self.model}; a run may ask {self.budget}"

    def annotate(
        self,
        concepts: Sequence[Sequence[str]],
        vectors: StaticVectors,
        vocabulary: Vocabulary,
        chance: RandomLists | None = None,
    ) -> Unit:
        """The labels and descriptions of concepts.

        The unit has arrays and two lists of strings. label_SCL, bool: whether a concept gets a label by a seed's
        answer. answered_SC, bool: whether that answer could be read; where it could not, the concept gets no label.
        With prompt='paper' there is a third array, cannot_tell_SC, bool: whether the seed's answer says that the words
        share nothing; answered_SC is False there.
        `label`: the L names of the labels. `description`: what the model says that a concept's words share, for all
        concepts of the first seed, then of the second, and so on. vectors, vocabulary and chance are not used.
        Raises InputError where no endpoint is named or it keeps failing, and where the budget is spent.
        """
        reads = run_coroutine(self._reads(concepts))
        shape = (len(self.seeds), len(concepts))
        label = torch.tensor([[name in (labels or ()) for name in self.labels] for _, labels in reads])
        answered = torch.tensor([labels is not None for _, labels in reads])
        arrays = {
            "label_SCL": label.bool().reshape(*shape, len(self.labels)),
            "answered_SC": answered.bool().reshape(shape),
        }
        if self.prompt == "paper":
            told = torch.tensor([questions.cannot_tell(description) for description, _ in reads])
            arrays["cannot_tell_SC"] = told.bool().reshape(shape)
        return Unit(arrays, {"label": list(self.labels), "description": [description for description, _ in reads]})

    async def _reads(self, concepts: Sequence[Sequence[str]]) -> list[Read]:
        """The readings of all concepts by the first seed, then of all concepts by the second seed, and so on."""
        session = self.session()
        asked = [self._read(session, words, seed) for seed in self.seeds for words in concepts]
        return await gather_answers(session, asked)

    async def _read(self, session: Session, words: Sequence[str], seed: int) -> Read:
        description = " ".join((await session.answer(self._describe(words), seed)).split())
        if self.prompt == "paper":
            if questions.cannot_tell(description):
                return description, None
            words = ()
        return description, questions.read_labels(await session.answer(questions.label(words, description), seed))
