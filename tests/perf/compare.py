"""shiftbench.perf.compare's rounds, where pytest-benchmark times ours too: its rounds go to --benchmark-json."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shiftbench.perf import compare
from shiftbench.perf.compare import Comparison


def alternate(
    benchmark: Any, ours: Callable[[Any], Any], peers: Mapping[str, Callable[[Any], Any]], inputs: Sequence[Any]
) -> Comparison:
    """A round on each input: every peer once, then ours. The clock beside ours is the one that timed the peers."""
    return compare.alternate(ours, peers, inputs, benchmark.pedantic)
