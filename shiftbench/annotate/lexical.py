"""Names and labels of concepts from their words alone: deterministic, offline (DESIGN 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from shiftbench.annotate.forms import form_codes
from shiftbench.data import packaged_lines
from shiftbench.errors import InputError
from shiftbench.explanation import content_key
from shiftbench.words import StaticVectors, Vocabulary

TASKS = ("writing", "math", "coding", "translation")
LEVELS = ("phonology", "morphology", "syntax", "semantics")
FREQUENCY_BANDS = 10
LISTS_AT_ONCE = 500  # lists x words x words comparisons stay in cache


@dataclass(frozen=True)
class LexicalAnnotator:
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
            raise InputError(f"annotator.false_alarm={self.false_alarm} must lie between 0 and 1")
        if self.draws * self.false_alarm < 1:
            raise InputError(
                f"annotator.draws={self.draws} random lists cannot tell a false alarm of {self.false_alarm}; "
                f"take at least {round(1 / self.false_alarm)}"
            )

    @property
    def digest(self) -> str:
        """sha256 (hex) of the method, its options and its word lists."""
        content = {"method": self.method, "version": self.version, **asdict(self), "words": dict(word_lists())}
        return content_key(content)

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


class Lexicon:
    """What the annotator knows of each word of a vocabulary.

    Vectors are centred within tenths of the vocabulary: frequent words lie close together in any space of word vectors,
    as do rare ones, whatever they mean.
    """

    def __init__(self, vocabulary: Vocabulary, vectors: StaticVectors) -> None:
        lists = word_lists()
        self.vocabulary = vocabulary
        self.row = {word: i for i, word in enumerate(vocabulary.words)}
        # Seed words need a vector, not a place in the vocabulary; those beyond it are taken for rare.
        seeds = [word for task in TASKS for word in lists[task] if word not in self.row]
        vectors_ND, known_N = vectors.lookup([*vocabulary.words, *seeds])
        unit_ND = normalize(_centred(vectors_ND, known_N), dim=1) * known_N[:, None]
        row = {**self.row, **{word: len(self.row) + i for i, word in enumerate(seeds)}}
        prototype_TD = torch.stack(
            [_prototype(task, unit_ND[[row[w] for w in lists[task]]], vectors) for task in TASKS]
        )
        self.unit_VD, self.known_V = unit_ND[: len(self.row)], known_N[: len(self.row)]
        self.task_VT = self.unit_VD @ prototype_TD.T
        self.closed_V = torch.tensor([word.lower() in lists["closed"] for word in vocabulary.words]).float()
        self.codes = form_codes(vocabulary.words, lists["prefix"], lists["suffix"])

    def index(self, concepts: Sequence[Sequence[str]]) -> Tensor:
        """Rows [C, K] of the words of C concepts."""
        sizes = sorted({len(words) for words in concepts})
        if len(sizes) > 1 or sizes == [0]:
            raise ValueError(f"concepts must be lists of equally many words, got lists of {sizes}")
        try:
            return torch.tensor([[self.row[word] for word in words] for words in concepts])
        except KeyError as error:
            raise ValueError(f"the concept word {error} is not in the vocabulary {self.vocabulary.name!r}") from error

    def statistics(self, index_NK: Tensor) -> Tensor:
        """float32 [N, tasks + levels]: of each list of words, what the labels are judged by (LexicalAnnotator)."""
        return torch.cat([self._statistics(part_NK) for part_NK in index_NK.split(LISTS_AT_ONCE)])

    def _statistics(self, index_NK: Tensor) -> Tensor:
        known_N = self.known_V[index_NK].sum(1)
        task_NT = embedding_bag(index_NK, self.task_VT, mode="sum") / known_N.clamp(min=1)[:, None]
        # The sum of all cosines, a word's with itself among them, is the squared length of the sum.
        cosines_N = embedding_bag(index_NK, self.unit_VD, mode="sum").square().sum(1) - known_N
        semantics_N = cosines_N / (known_N * (known_N - 1)).clamp(min=1)
        shared = {part: _same(code_V[index_NK]) for part, code_V in self.codes.items()}
        morphology_N = _pair_share(shared["prefix"] | shared["suffix"] | shared["stem"])
        phonology_N = _pair_share((shared["onset"] | shared["rhyme"]) & ~shared["stem"])
        syntax_N = self.closed_V[index_NK].mean(1)
        return torch.cat([task_NT, torch.stack([phonology_N, morphology_N, syntax_N, semantics_N], dim=1)], dim=1)


@lru_cache(maxsize=4)
def lexicon_of(vocabulary: Vocabulary, vectors: StaticVectors) -> Lexicon:
    """The lexicon, made once for the layers of a model."""
    return Lexicon(vocabulary, vectors)


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


@lru_cache(maxsize=1)
def word_lists() -> dict[str, tuple[str, ...]]:
    """The packaged lists by label: seeds of the user tasks, closed classes, affixes."""
    lists: dict[str, tuple[str, ...]] = {}
    for line in packaged_lines("annotate/words.txt"):
        label, colon, words = line.partition(":")
        if colon and not line.startswith("#"):
            lists[label] = (*lists.get(label, ()), *words.split())
    return lists


def _prototype(task: str, unit_ND: Tensor, vectors: StaticVectors) -> Tensor:
    """Mean direction [D] of a task's seed words; rows of zeros are words without a vector."""
    if not unit_ND.any():
        raise InputError(
            f"lexical annotator: no seed word of {task!r} has a vector in {vectors.name!r}; take other ones"
        )
    return normalize(unit_ND.sum(0), dim=0)


def _centred(vectors_VD: Tensor, known_V: Tensor) -> Tensor:
    """Vectors less the mean of the known words of their frequency band."""
    centred_VD = vectors_VD.clone()
    for band in torch.arange(len(vectors_VD)).tensor_split(FREQUENCY_BANDS):
        known = band[known_V[band]]
        centred_VD[known] -= vectors_VD[known].mean(0)
    return centred_VD


def _same(code_NK: Tensor) -> Tensor:
    """bool [N, K, K]: words with the same code, where they have one."""
    return (code_NK[:, :, None] == code_NK[:, None, :]) & (code_NK >= 0)[:, :, None]


def _pair_share(same_NKK: Tensor) -> Tensor:
    """Share of the pairs of different words that are marked; 0 of a single word."""
    size = same_NKK.shape[1]
    between = same_NKK.sum((1, 2)) - same_NKK.diagonal(dim1=1, dim2=2).sum(1)
    return between / max(size * (size - 1), 1)
