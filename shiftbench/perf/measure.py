"""One measurement in its own process: `python -m shiftbench.perf.measure JSON` prints one line of JSON.

The process computes on one thread and measures the processor time that it used. So time in which another process has
the core does not count, and nothing measured here waits. A change in how work is shared among threads is not measured.

Each new process places its memory at other addresses. This alone changes a ratio by a few percent. Therefore a slowdown
must show in three processes, and a baseline is the median of several processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from shiftbench import ops
from shiftbench.perf.counters import Counts
from shiftbench.perf.hot_spots import Call, HotSpot, hot_spots
from shiftbench.perf.machine import machine_class
from shiftbench.perf.statistic import BLOCK, MOST_ROUNDS, Ratio, median_ratio
from shiftbench.perf.timing import alternate

THREADS = 1
PROGRAM = (sys.executable, "-m", "shiftbench.perf.measure")


@dataclass(frozen=True)
class MeasurementRequest:
    """What a process is to measure.

    keys: the ratios to measure; None: all of them; an empty list: none, so that only counters are measured. limits: by
    key of a ratio, the value that the ratio is compared with; rounds are added until its interval is on one side of the
    value, or until there are MOST_ROUNDS. least: the smallest number of rounds.
    """

    keys: Sequence[str] | None
    limits: Mapping[str, float]
    least: int = BLOCK


@dataclass(frozen=True)
class Measured:
    """What a process measured.

    machine: the class of CPU. torch: the version of torch. ratios: by key. counters: by the name of the hot spot.
    """

    machine: str
    torch: str
    ratios: Mapping[str, Ratio]
    counters: Mapping[str, Counts]


def measured(request: MeasurementRequest, program: Sequence[str] = PROGRAM) -> Measured:
    """What a new process measures for a request. program: the command that starts the process, without the request.

    Raises RuntimeError where the process fails.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    done = subprocess.run(
        [*program, json.dumps(asdict(request))], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"perf: the measuring process failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    ratios = {key: Ratio(**fields) for key, fields in found.pop("ratios").items()}
    return Measured(ratios=ratios, **found)


def this_machine() -> str:
    """This machine's class as `machine_class` gives it, for THREADS threads, as 'amd 25-17 avx512 1 thread'.

    A baseline has its ratios under this name.
    """
    return machine_class(THREADS)


def measure(request: MeasurementRequest, measured_spots: Sequence[HotSpot]) -> Measured:
    """Measure in this process: count every one of the hot spots, then time those that have a requested ratio.

    From then on torch and the core compute with THREADS threads in this process.
    """
    torch.set_num_threads(THREADS)
    ops.set_threads(THREADS)
    counted = {spot.name: spot.count(spot.ours) for spot in measured_spots}
    ratios: dict[str, Ratio] = {}
    for spot in measured_spots:
        keys = {against: key for against, key in spot.keys().items() if request.keys is None or key in request.keys}
        ratios.update(timed(spot, keys, request) if keys else {})
    return Measured(this_machine(), torch.__version__, ratios, counted)


def timed(spot: HotSpot, keys: Mapping[str, str], request: MeasurementRequest) -> dict[str, Ratio]:
    """The time of one call of the hot spot divided by that of one call of each yardstick, by the ratio's key.

    keys: yardstick's name -> key of the ratio. Blocks of rounds are added until there are at least `request.least`
    rounds and every ratio with a limit is decided, or until there are MOST_ROUNDS.
    """
    our_repeats, their_repeats = spot.repeats
    ours = _repeated(spot.ours, our_repeats)
    yardsticks = {against: _repeated(spot.yardsticks[against], their_repeats) for against in keys}
    alternate(ours, yardsticks, [None] * 2)  # warm up
    rounds: dict[str, list[float]] = {key: [] for key in keys.values()}
    while True:
        compared = alternate(ours, yardsticks, [None] * BLOCK, clock=time.process_time)
        for against, key in keys.items():
            rounds[key] += [their_repeats / our_repeats / faster for faster in compared.ratios(against)]
        found = {key: median_ratio(values) for key, values in rounds.items()}
        count = min(len(values) for values in rounds.values())
        decided = all(key not in request.limits or found[key].decided(request.limits[key]) for key in found)
        if count >= MOST_ROUNDS or (count >= request.least and decided):
            return found


def _repeated(call: Call, times: int) -> Callable[[object], None]:
    def run(_: object) -> None:
        for _ in range(times):
            call()

    return run


def main(argument: str, make_spots: Callable[[], Sequence[HotSpot]] = hot_spots) -> None:
    """Measure what the argument, a MeasurementRequest as JSON, describes, and print the Measured as one line of JSON.

    make_spots: returns the hot spots.
    """
    print(json.dumps(asdict(measure(MeasurementRequest(**json.loads(argument)), make_spots()))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
