"""One measurement, in a process of its own: `python -m shiftbench.perf.measure JSON` answers with one line of JSON.

It computes on one thread and is timed by the processor's time that it used, so that a neighbour who takes a core away
does not count: nothing measured here waits for anything. What its work shared among threads would gain is not seen.
A process that is started anew has its memory elsewhere, which alone moves a ratio by some percent: that is why a
slowdown must show in three of them, and why a baseline is the median of several.
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
from shiftbench.perf.compare import alternate
from shiftbench.perf.counters import Counts
from shiftbench.perf.machine import machine_class
from shiftbench.perf.spots import Call, Spot, spots
from shiftbench.perf.statistic import BLOCK, MOST, Ratio, ratio

THREADS = 1
PROGRAM = (sys.executable, "-m", "shiftbench.perf.measure")


@dataclass(frozen=True)
class Asked:
    """What a measurement is to do. keys: ratios to measure, None: all of them, nothing: counters alone.

    limits: of ratios; where one is given, rounds end when the ratio's interval is on one side of it. least: rounds.
    """

    keys: Sequence[str] | None
    limits: Mapping[str, float]
    least: int = BLOCK


@dataclass(frozen=True)
class Measured:
    """What a process found: ratios by their keys, counts by hot spot, and the machine's class."""

    machine: str
    torch: str
    ratios: Mapping[str, Ratio]
    counters: Mapping[str, Counts]


def measured(asked: Asked, program: Sequence[str] = PROGRAM) -> Measured:
    """What a fresh process finds. program: what it runs. Raises RuntimeError where it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    done = subprocess.run(
        [*program, json.dumps(asdict(asked))], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"perf: the measuring process failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    ratios = {key: Ratio(**fields) for key, fields in found.pop("ratios").items()}
    return Measured(ratios=ratios, **found)


def this_machine() -> str:
    """The class of this machine, on as many threads as measurements have."""
    return machine_class(THREADS)


def measure(asked: Asked, of: Sequence[Spot]) -> Measured:
    """The same in this process: every hot spot counted, then those asked for timed."""
    torch.set_num_threads(THREADS)
    ops.set_threads(THREADS)
    counted = {spot.name: spot.count(spot.ours) for spot in of}
    ratios: dict[str, Ratio] = {}
    for spot in of:
        keys = {against: key for against, key in spot.keys().items() if asked.keys is None or key in asked.keys}
        ratios.update(timed(spot, keys, asked) if keys else {})
    return Measured(this_machine(), torch.__version__, ratios, counted)


def timed(spot: Spot, keys: Mapping[str, str], asked: Asked) -> dict[str, Ratio]:
    """The hot spot's time over that of each yardstick in keys; blocks of rounds until all are decided, MOST at most."""
    of_ours, of_theirs = spot.repeats
    ours = _repeated(spot.ours, of_ours)
    yardsticks = {against: _repeated(spot.yardsticks[against], of_theirs) for against in keys}
    alternate(ours, yardsticks, [None] * 2)  # warms up
    rounds: dict[str, list[float]] = {key: [] for key in keys.values()}
    while True:
        compared = alternate(ours, yardsticks, [None] * BLOCK, clock=time.process_time)
        for against, key in keys.items():
            rounds[key] += [of_theirs / of_ours / faster for faster in compared.ratios(against)]
        found = {key: ratio(values) for key, values in rounds.items()}
        count = min(len(values) for values in rounds.values())
        decided = all(key not in asked.limits or found[key].decided(asked.limits[key]) for key in found)
        if count >= MOST or (count >= asked.least and decided):
            return found


def _repeated(call: Call, times: int) -> Callable[[object], None]:
    def run(_: object) -> None:
        for _ in range(times):
            call()

    return run


def main(argument: str, of: Callable[[], Sequence[Spot]] = spots) -> None:
    """Measure what the JSON asks for and print the answer."""
    print(json.dumps(asdict(measure(Asked(**json.loads(argument)), of()))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
