"""Properties of each word of a vocabulary, and the statistics of a list of words that labels are given by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from shiftbench.annotate.forms import form_codes
from shiftbench.errors import InputError
from shiftbench.words import StaticVectors, Vocabulary, word_lists

TASKS = ("writing", "math", "coding", "translation")
LEVELS = ("phonology", "morphology", "syntax", "semantics")
FREQUENCY_BANDS = 10
LISTS_AT_ONCE = 500  # so few that their comparisons (lists x words x words) stay in the CPU's cache


class Lexicon:
    """What the annotator knows of each word of a vocabulary.

    The vocabulary is divided into bands of equal size by frequency, and vectors are centred within each band: in any
    space of word vectors frequent words are close to each other, and so are rare words, whatever they mean.
    """

    def __init__(self, vocabulary: Vocabulary, vectors: StaticVectors) -> None:
        lists = word_lists()
        self.vocabulary = vocabulary
        self.row = {word: i for i, word in enumerate(vocabulary.words)}
        # Seed words that are not in the vocabulary are appended to it here, as rare words: they only need a vector.
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
        """index_CK: the number in the vocabulary of each word of C concepts. ValueError as in LexicalAnnotator."""
        sizes = sorted({len(words) for words in concepts})
        if len(sizes) > 1 or sizes == [0]:
            raise ValueError(f"concepts must be lists of equally many words, got lists of {sizes}")
        try:
            return torch.tensor([[self.row[word] for word in words] for words in concepts])
        except KeyError as error:
            raise ValueError(f"the concept word {error} is not in the vocabulary {self.vocabulary.name!r}") from error

    def statistics(self, index_NK: Tensor) -> Tensor:
        """float32 [N, tasks + levels]: the statistics of N lists of words, described at LexicalAnnotator.

        index_NK: the words' numbers in the vocabulary.
        """
        return torch.cat([self._statistics(part_NK) for part_NK in index_NK.split(LISTS_AT_ONCE)])

    def _statistics(self, index_NK: Tensor) -> Tensor:
        known_N = self.known_V[index_NK].sum(1)
        task_NT = embedding_bag(index_NK, self.task_VT, mode="sum") / known_N.clamp(min=1)[:, None]
        # The squared length of the sum is the sum of all cosines, with each word's cosine with itself, which is
        # subtracted.
        cosines_N = embedding_bag(index_NK, self.unit_VD, mode="sum").square().sum(1) - known_N
        semantics_N = cosines_N / (known_N * (known_N - 1)).clamp(min=1)
        shared = {part: _same(code_V[index_NK]) for part, code_V in self.codes.items()}
        morphology_N = _pair_share(shared["prefix"] | shared["suffix"] | shared["stem"])
        phonology_N = _pair_share((shared["onset"] | shared["rhyme"]) & ~shared["stem"])
        syntax_N = self.closed_V[index_NK].mean(1)
        return torch.cat([task_NT, torch.stack([phonology_N, morphology_N, syntax_N, semantics_N], dim=1)], dim=1)


@lru_cache(maxsize=4)
def lexicon_of(vocabulary: Vocabulary, vectors: StaticVectors) -> Lexicon:
    """The lexicon; cached, because all layers of a model use the same one."""
    return Lexicon(vocabulary, vectors)


def _prototype(task: str, unit_ND: Tensor, vectors: StaticVectors) -> Tensor:
    """Mean direction [D] of a task's seed words. unit_ND: their unit vectors, zeros for words without a vector."""
    if not unit_ND.any():
        raise without_seed(task, vectors)
    return normalize(unit_ND.sum(0), dim=0)


def without_seed(task: str, vectors: StaticVectors) -> InputError:
    """The error where no seed word of a task has a vector."""
    return InputError(f"lexical annotator: no seed word of {task!r} has a vector in {vectors.name!r}; use others")


def _centred(vectors_VD: Tensor, known_V: Tensor) -> Tensor:
    """Each vector minus the mean of the known vectors of its frequency band."""
    centred_VD = vectors_VD.clone()
    for band in torch.arange(len(vectors_VD)).tensor_split(FREQUENCY_BANDS):
        known = band[known_V[band]]
        centred_VD[known] -= vectors_VD[known].mean(0)
    return centred_VD


def _same(code_NK: Tensor) -> Tensor:
    """bool [N, K, K]: which words have the same code; a word without a code (-1) has it in common with none."""
    return (code_NK[:, :, None] == code_NK[:, None, :]) & (code_NK >= 0)[:, :, None]


def _pair_share(same_NKK: Tensor) -> Tensor:
    """share_N: share of the pairs of different words that are True; 0 for lists of one word."""
    size = same_NKK.shape[1]
    between = same_NKK.sum((1, 2)) - same_NKK.diagonal(dim1=1, dim2=2).sum(1)
    return between / max(size * (size - 1), 1)
