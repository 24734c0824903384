"""What is known of each word of a vocabulary, and of a list of them, that labels are judged by."""

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
LISTS_AT_ONCE = 500  # lists x words x words comparisons stay in cache


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


def _prototype(task: str, unit_ND: Tensor, vectors: StaticVectors) -> Tensor:
    """Mean direction [D] of a task's seed words; rows of zeros are words without a vector."""
    if not unit_ND.any():
        raise without_seed(task, vectors)
    return normalize(unit_ND.sum(0), dim=0)


def without_seed(task: str, vectors: StaticVectors) -> InputError:
    """What to raise where no seed word of a task has a vector."""
    return InputError(f"lexical annotator: no seed word of {task!r} has a vector in {vectors.name!r}; take other ones")


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
