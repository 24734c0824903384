"""shiftbench.perf.timing's rounds, run by pytest-benchmark, so that ours is in --benchmark-json as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shiftbench.perf import timing
from shiftbench.perf.timing import Comparison


def alternate(
    benchmark: Any, ours: Callable[[Any], Any], peers: Mapping[str, Callable[[Any], Any]], inputs: Sequence[Any]
) -> Comparison:
    """Time one round on each input: every peer once, then ours.

    Ours and the peers are timed by the same clock. pytest-benchmark's own time of ours is not part of the result.
    """
    return timing.alternate(ours, peers, inputs, benchmark.pedantic)
