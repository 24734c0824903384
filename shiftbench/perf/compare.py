"""Ours against peers: timed in alternation in one process on the same inputs, agreement beside every ratio."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampled:
    """What a peer that did a part of the work returns: its result, and seconds that the whole would have taken."""

    result: Any
    seconds: float
    part: str  # for the reader: which part was done


@dataclass(frozen=True)
class Agreement:
    """How far two results are apart. text: for the table; ok: whether they are the same result for a reader."""

    text: str
    ok: bool


@dataclass
class Timed:
    """Seconds of each round of one contestant, and what it returned in each."""

    seconds: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    part: str = ""

    def add(self, seconds: float, result: Any) -> None:
        if isinstance(result, Sampled):
            seconds, self.part, result = result.seconds, result.part, result.result
        self.seconds.append(seconds)
        self.results.append(result)

    @property
    def result(self) -> Any:
        """What the last round returned."""
        return self.results[-1]


@dataclass(frozen=True)
class Comparison:
    """Rounds of ours and of each peer, round i of all of them next to each other in time and on the same input."""

    ours: Timed
    peers: Mapping[str, Timed]

    def ratios(self, peer: str) -> list[float]:
        """How many times faster ours was than the peer, round by round."""
        return [theirs / ours for theirs, ours in zip(self.peers[peer].seconds, self.ours.seconds, strict=True)]

    def ratio(self, peer: str) -> tuple[float, float, float]:
        """(median, lowest, highest) over the rounds."""
        ratios = self.ratios(peer)
        return statistics.median(ratios), min(ratios), max(ratios)

    def total_ratio(self, peer: str) -> float:
        """The peer's time over all rounds relative to ours: for rounds on different inputs."""
        return sum(self.peers[peer].seconds) / sum(self.ours.seconds)


def alternate(
    ours: Callable[[Any], Any],
    peers: Mapping[str, Callable[[Any], Any]],
    inputs: Sequence[Any],
    each: Callable[..., Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """A round on each input: every peer once, then ours. each: calls ours behind its setup, as pytest-benchmark does.

    A machine whose speed drifts slows both sides of a round's ratio. Warming up is the caller's business.
    """
    timed, ours_timed, left = {name: Timed() for name in peers}, Timed(), iter(inputs)

    def run_peers() -> tuple[tuple[Any], dict[str, Any]]:
        given = next(left)
        for name, peer in peers.items():
            start = clock()
            result = peer(given)
            timed[name].add(clock() - start, result)
        return (given,), {}

    def run_ours(given: Any) -> None:
        start = clock()
        result = ours(given)
        ours_timed.add(clock() - start, result)

    (each or _in_turn)(run_ours, setup=run_peers, rounds=len(inputs), iterations=1)
    return Comparison(ours_timed, timed)


def _in_turn(call: Callable[..., None], setup: Callable[[], Any], rounds: int, iterations: int) -> None:
    for _ in range(rounds * iterations):
        given, named = setup()
        call(*given, **named)


def columns(
    ours_PR: Tensor, theirs_PR: Tensor, places: Sequence[int] | None = None, tolerance: float = 1e-2
) -> Agreement:
    """Largest difference of each response token's column relative to theirs' largest value: median and worst column.

    places: the columns of ours that theirs holds, where it holds only some. tolerance: of the median column; a column
    whose probability is near 1 cancels in the peers' softmax, so their worst column says little.
    """
    error_R = column_error(ours_PR if places is None else ours_PR[:, list(places)], theirs_PR)
    median, worst = float(error_R.median()), float(error_R.max())
    return Agreement(f"{median:.0e} (worst column {worst:.0e})", median <= tolerance)


def column_error(ours_PR: Tensor, theirs_PR: Tensor) -> Tensor:
    """Each column's largest |difference| over theirs' largest |value|; infinite where not comparable."""
    ours_PR, theirs_PR = ours_PR.double(), theirs_PR.double()
    if ours_PR.shape != theirs_PR.shape:
        return torch.full((1,), math.inf)
    return ((ours_PR - theirs_PR).abs().amax(0) / theirs_PR.abs().amax(0)).nan_to_num(nan=math.inf)


def values(ours: Tensor, theirs: Tensor, tolerance: float) -> Agreement:
    """Largest |difference| relative to theirs' largest |value|."""
    error = float(column_error(ours.reshape(-1, 1), theirs.reshape(-1, 1)).max())
    return Agreement(f"{error:.0e}", error <= tolerance)


def ranked(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], tolerance: float = 1e-5) -> Agreement:
    """(values, indices) of two rankings: indices that differ, and by how much the values there do.

    Scores summed in another order swap words that nearly tie; such a swap is within `tolerance` of the largest value.
    """
    (value, index), (their_value, their_index) = ours, theirs
    if index.shape != their_index.shape:
        return Agreement(f"shapes differ, {tuple(index.shape)} and {tuple(their_index.shape)}", False)
    differ = index.long() != their_index.long()
    count = int(differ.sum())
    if not count:
        return Agreement("all indices equal", True)
    gap = (value.double().abs() - their_value.double().abs()).abs()[differ].max() / their_value.abs().max()
    text = f"{count} of {index.numel()} indices differ, by {float(gap):.0e} of the largest value"
    return Agreement(text, float(gap) <= tolerance and count <= 1e-3 * index.numel())
