"""Properties of each word of a vocabulary, and the statistics of a list of words by which the list gets its labels."""

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
LISTS_AT_ONCE = 500  # lists whose words are compared together; the comparisons (500 x K x K) fit in the CPU's cache


class Lexicon:
    """The properties of each word of a vocabulary that LexicalAnnotator's statistics are computed from.

    row: each word's index in the vocabulary. unit_VD: centred word vectors of length 1; zeros for words without a
    vector. known_V: whether a word has a vector. task_VT: the cosine of each word with the mean direction of each
    task's seed words. closed_V: 1 for words of a closed class, or 0. codes: form_codes of the words.

    The vocabulary, most frequent words first, and behind it the seed words that it lacks are divided into
    FREQUENCY_BANDS bands, whose sizes differ by at most one word. Vectors are centred within each band: in spaces of
    word vectors frequent words tend to be close to each other, and so do rare words, whatever they mean. Raises
    InputError where a task has no seed word with a vector.
    """

    def __init__(self, vocabulary: Vocabulary, vectors: StaticVectors) -> None:
        lists = word_lists()
        self.vocabulary = vocabulary
        self.row = {word: i for i, word in enumerate(vocabulary.words)}
        # A seed word needs a vector but need not be in the vocabulary. Seed words that are not in it are put behind its
        # words, so they are centred with the rarest band.
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
        """index_CK, int64: each word's index in the vocabulary, for C concepts of K words.

        C is at least 1. Raises ValueError where the lists have no words or different lengths, or a word is not in the
        vocabulary.
        """
        sizes = sorted({len(words) for words in concepts})
        if len(sizes) > 1 or sizes == [0]:
            raise ValueError(f"concepts must be lists of equally many words, got lists of {sizes}")
        try:
            return torch.tensor([[self.row[word] for word in words] for words in concepts])
        except KeyError as error:
            raise ValueError(f"the concept word {error} is not in the vocabulary {self.vocabulary.name!r}") from error

    def statistics(self, index_NK: Tensor) -> Tensor:
        """The statistics of N lists of words, float32 [N, tasks + levels], columns in the order of TASKS, then LEVELS.

        LexicalAnnotator says what each statistic is. index_NK: the words' indices in the vocabulary.
        """
        return torch.cat([self._statistics(part_NK) for part_NK in index_NK.split(LISTS_AT_ONCE)])

    def _statistics(self, index_NK: Tensor) -> Tensor:
        known_N = self.known_V[index_NK].sum(1)
        task_NT = embedding_bag(index_NK, self.task_VT, mode="sum") / known_N.clamp(min=1)[:, None]
        # The squared length of the sum of K unit vectors is the sum of the cosines of all K x K pairs. A pair of a word
        # with itself has cosine 1, so the number of words with a vector is subtracted.
        cosines_N = embedding_bag(index_NK, self.unit_VD, mode="sum").square().sum(1) - known_N
        semantics_N = cosines_N / (known_N * (known_N - 1)).clamp(min=1)
        shared = {part: _same(code_V[index_NK]) for part, code_V in self.codes.items()}
        morphology_N = _pair_share(shared["prefix"] | shared["suffix"] | shared["stem"])
        phonology_N = _pair_share((shared["onset"] | shared["rhyme"]) & ~shared["stem"])
        syntax_N = self.closed_V[index_NK].mean(1)
        return torch.cat([task_NT, torch.stack([phonology_N, morphology_N, syntax_N, semantics_N], dim=1)], dim=1)


@lru_cache(maxsize=4)
def lexicon_of(vocabulary: Vocabulary, vectors: StaticVectors) -> Lexicon:
    """The Lexicon of a vocabulary and word vectors. Cached, because all layers of a model use the same lexicon."""
    return Lexicon(vocabulary, vectors)


def _prototype(task: str, unit_ND: Tensor, vectors: StaticVectors) -> Tensor:
    """The mean direction of a task's seed words, a vector of length 1, [D].

    unit_ND: the unit vectors of the task's N seed words; zeros for words without a vector. vectors: for the message.
    Raises InputError where none of the seed words has a vector.
    """
    if not unit_ND.any():
        raise without_seed(task, vectors)
    return normalize(unit_ND.sum(0), dim=0)


def without_seed(task: str, vectors: StaticVectors) -> InputError:
    """The InputError (returned, not raised) which says that no seed word of `task` has a vector in `vectors`."""
    return InputError(f"lexical annotator: no seed word of {task!r} has a vector in {vectors.name!r}; use others")


def _centred(vectors_VD: Tensor, known_V: Tensor) -> Tensor:
    """Word vectors centred by frequency: from each known vector the mean of its band's known vectors is subtracted.

    vectors_VD: the words' vectors, the most frequent word first. known_V: bool, whether a word has a vector; the rows
    of other words are returned as they are.
    """
    centred_VD = vectors_VD.clone()
    for band in torch.arange(len(vectors_VD)).tensor_split(FREQUENCY_BANDS):
        known = band[known_V[band]]
        centred_VD[known] -= vectors_VD[known].mean(0)
    return centred_VD


def _same(code_NK: Tensor) -> Tensor:
    """bool [N, K, K]: for each list, which pairs of its K words have the same code.

    A word without the part (code -1) makes no pair, not even with itself.
    """
    return (code_NK[:, :, None] == code_NK[:, None, :]) & (code_NK >= 0)[:, :, None]


def _pair_share(same_NKK: Tensor) -> Tensor:
    """share_N: for each list, the share of the pairs of two different positions that are True; 0 for lists of one word.

    same_NKK: bool, symmetric; its diagonal is not counted.
    """
    size = same_NKK.shape[1]
    between = same_NKK.sum((1, 2)) - same_NKK.diagonal(dim1=1, dim2=2).sum(1)
    return between / max(size * (size - 1), 1)
