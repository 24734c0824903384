"""Times our code and its peers in alternation, in one process and on the same inputs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sampled:
    """What a peer returns where it did only a part of the work.

    result: the result of this part. seconds: the time that the whole work would have taken. part: which part was done,
    in words.
    """

    result: Any
    seconds: float
    part: str


@dataclass
class Timed:
    """The seconds and the results of ours or of one peer, an element for each round.

    part: which part of the work was done, as in Sampled; '' where it was all of it.
    """

    seconds: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    part: str = ""

    def add(self, seconds: float, result: Any) -> None:
        """Add a round. Of a Sampled, its own seconds and its result are added, and `part` becomes its part."""
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
        """The peer's time divided by ours, for each round: above 1 where ours is faster."""
        return [theirs / ours for theirs, ours in zip(self.peers[peer].seconds, self.ours.seconds, strict=True)]

    def ratio(self, peer: str) -> tuple[float, float, float]:
        """(median, lowest, highest) of the rounds' ratios."""
        ratios = self.ratios(peer)
        return statistics.median(ratios), min(ratios), max(ratios)

    def total_ratio(self, peer: str) -> float:
        """The peer's time over all rounds divided by ours over all rounds, for rounds on inputs of different sizes."""
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
    run_rounds: what runs the rounds, called as pytest-benchmark's `pedantic` is; None: a plain loop. clock: returns the
    time in seconds.
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
