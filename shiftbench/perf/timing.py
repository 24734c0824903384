"""Times our code and its peers in alternation, in one process and on the same inputs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sampled:
    """What a peer returns that did only a part of the work.

    result: of the part. seconds: what the whole work would have taken. part: which part was done, for the reader.
    """

    result: Any
    seconds: float
    part: str


@dataclass
class Timed:
    """The seconds and the results of one contestant, by round. part: as in Sampled, '' where the work was complete."""

    seconds: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    part: str = ""

    def add(self, seconds: float, result: Any) -> None:
        """Add a round. A Sampled result replaces the measured seconds by its own."""
        if isinstance(result, Sampled):
            seconds, self.part, result = result.seconds, result.part, result.result
        self.seconds.append(seconds)
        self.results.append(result)

    @property
    def result(self) -> Any:
        """The result of the last round."""
        return self.results[-1]


@dataclass(frozen=True)
class Comparison:
    """Rounds of ours and of each peer. Round i of all of them ran one after another, on the same input."""

    ours: Timed
    peers: Mapping[str, Timed]

    def ratios(self, peer: str) -> list[float]:
        """The peer's time divided by ours, by round."""
        return [theirs / ours for theirs, ours in zip(self.peers[peer].seconds, self.ours.seconds, strict=True)]

    def ratio(self, peer: str) -> tuple[float, float, float]:
        """(median, lowest, highest) of the rounds' ratios."""
        ratios = self.ratios(peer)
        return statistics.median(ratios), min(ratios), max(ratios)

    def total_ratio(self, peer: str) -> float:
        """The peer's time over all rounds divided by ours, for rounds on different inputs."""
        return sum(self.peers[peer].seconds) / sum(self.ours.seconds)


def alternate(
    ours: Callable[[Any], Any],
    peers: Mapping[str, Callable[[Any], Any]],
    inputs: Sequence[Any],
    run_rounds: Callable[..., Any] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time one round on each input: every peer once, then ours.

    If the speed of the machine drifts, it drifts for both sides of a round's ratio. The caller warms up.
    run_rounds: runs the rounds with the signature of pytest-benchmark's `pedantic`; None: a plain loop. clock: returns
    seconds.
    """
    peers_timed: dict[str, Timed] = {name: Timed() for name in peers}
    ours_timed, remaining = Timed(), iter(inputs)

    def run_peers() -> tuple[tuple[Any], dict[str, Any]]:
        given = next(remaining)
        for name, peer in peers.items():
            start = clock()
            result = peer(given)
            peers_timed[name].add(clock() - start, result)
        return (given,), {}

    def run_ours(given: Any) -> None:
        start = clock()
        result = ours(given)
        ours_timed.add(clock() - start, result)

    (run_rounds or _plain_rounds)(run_ours, setup=run_peers, rounds=len(inputs), iterations=1)
    return Comparison(ours_timed, peers_timed)


def _plain_rounds(call: Callable[..., None], setup: Callable[[], Any], rounds: int, iterations: int) -> None:
    for _ in range(rounds * iterations):
        arguments, options = setup()
        call(*arguments, **options)
