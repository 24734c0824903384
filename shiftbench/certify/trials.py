"""The trials of a certification: each is one pair of models to be made and scored."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shiftbench.contracts.claim import NullPair
from shiftbench.errors import InputError


@dataclass(frozen=True)
class Trial:
    """One pair to be made and scored.

    kind: the kind of null pair; None where a shift is planted. planted: the name of the score whose shift is planted;
    "" for a null pair. size: of the noise in units of tuning's change, or of the planted shift (conf/certify.yaml says
    in which unit); None where a kind has one size. number: counts the trials of equal kind, shift and size, from 1.
    """

    kind: NullPair | None
    planted: str
    size: float | None
    number: int

    @property
    def name(self) -> str:
        """The trial's name, for its file and for messages, for example 'noise-0.3-2' or 'planted-verbs-0.5-1'."""
        what = f"planted-{self.planted}" if self.kind is None else self.kind.name.lower()
        return "-".join([what, *([f"{self.size:g}"] if self.size is not None else []), str(self.number)])

    def seed(self, seed: int) -> int:
        """The seed of the trial's random numbers, below 2^31. seed: that of the whole certification."""
        return int.from_bytes(hashlib.sha256(f"{seed} {self.name}".encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True)
class Design:
    """Which trials a certification has; conf/certify.yaml describes the fields.

    pairs: the number of pairs of each kind of null pair and size. kinds: names of NullPair in lower case. scales: the
    sizes of noise. shifts: the number of pairs of each planted shift and size. planted: the sizes of each planted
    shift, by the name of the score. Raises InputError for an unknown kind, a number of pairs that is no whole number of
    at least 0, and a size that is not above 0.
    """

    pairs: int
    kinds: Sequence[str]
    scales: Sequence[float]
    shifts: int
    planted: Mapping[str, Sequence[float]]

    def __post_init__(self) -> None:
        for option, value in (("pairs", self.pairs), ("shifts", self.shifts)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InputError(f"{option}={value!r} must be a whole number of at least 0")
        known = [kind.name.lower() for kind in NullPair]
        for kind in self.kinds:
            if kind not in known:
                raise InputError(f"kinds: {kind!r} is not known; choose from {', '.join(known)}")
        sizes = [*self.scales, *itertools.chain.from_iterable(self.planted.values())]
        for size in sizes:
            if not isinstance(size, int | float) or isinstance(size, bool) or not size > 0:
                raise InputError(f"scales and planted must hold numbers above 0, got {size!r}")

    def trials(self, planted: Sequence[str]) -> list[Trial]:
        """The trials in the order in which they are scored: the first pair of every kind, then the second, and so on.

        A kind is here a kind and size of null pair, or a planted shift and its size. So a certification that is stopped
        early has about equally many pairs of each, as far as `pairs` and `shifts` allow. planted: the names of the
        scores whose shifts can be planted in this job; others are left out.
        """
        kinds = [kind for kind in NullPair if kind.name.lower() in self.kinds]
        sizes = {kind: self.scales if kind is NullPair.NOISE else (None,) for kind in kinds}
        nulls = [
            (number, kind, "", size) for kind in kinds for size in sizes[kind] for number in range(1, self.pairs + 1)
        ]
        shifts = [
            (number, None, score, size)
            for score, of_score in self.planted.items()
            if score in planted
            for size in of_score
            for number in range(1, self.shifts + 1)
        ]
        ordered = sorted([*nulls, *shifts], key=lambda row: row[0])
        return [Trial(kind, score, size, number) for number, kind, score, size in ordered]
