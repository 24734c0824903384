"""Kills a small job at random moments, runs it again to its end, and compares its scores with an undisturbed run's.

    python tests/command/kills.py [TIMES [SEED]]     40 kills by default

The program prints the counts. Its exit code is 1 where a score differs, where a job's exit code does not belong to the
signal, or where a file is left over. The signals are SIGKILL, SIGTERM and SIGINT in turn, each sent at a random moment
between the start and the usual end of the job.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shiftbench.store.store import Store
from tests.command.conftest import arguments, scores, small_job, tiny_pair

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}


@dataclass
class KillCounts:
    """Counts of kills.

    kills: signals sent to a running job. late: jobs that had ended before the signal. equal: killed jobs whose
    scores, once they were run again to the end, equal those of the undisturbed run. unexpected_codes: exit codes that
    do not belong to the signal. left: files left over after that: hidden files in results folders, and what `shiftbench
    store prune` leaves in the folders claims and tmp of a store.
    """

    kills: int = 0
    late: int = 0
    equal: int = 0
    unexpected_codes: int = 0
    left: int = 0
    seconds: float = 0.0


def in_a_process(words: list[str], log: Path) -> Any:
    """Start `shiftbench WORDS` in a new interpreter; its output goes to the file `log`."""
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, "-m", "shiftbench", *words], stdout=file, stderr=file)


def kill_jobs(
    job_options: Mapping[str, str],
    place: Path,
    times: int,
    seed: int = 0,
    start: Callable[[list[str], Path], Any] = in_a_process,
) -> KillCounts:
    """Kill jobs `times` times and count the outcomes.

    job_options: the options of the job. place: the folder for results and stores. start: starts a process.
    """
    rng = random.Random(seed)
    place.mkdir(parents=True)
    began = time.monotonic()

    def run(home: Path) -> Any:
        home.mkdir(exist_ok=True)
        return start(
            arguments({**job_options, "store.path": str(home / "store"), "out": str(home / "out")}), home / "log"
        )

    assert run(place / "undisturbed").wait() == 0
    length = time.monotonic() - began
    undisturbed_scores = scores(place / "undisturbed" / "out")["scores"]
    counts = KillCounts()
    number = 0
    while counts.kills < times:
        home = place / f"job-{number}"
        kind = SIGNALS[number % len(SIGNALS)]
        number += 1
        process = run(home)
        moment = rng.uniform(0.05, length)
        time.sleep(moment)
        if process.poll() is None:
            process.send_signal(kind)
            code = process.wait(60)
            counts.kills += 1
            # The code is 0 where the job had done all its work when the signal came.
            counts.unexpected_codes += code not in CODES[kind] and code != 0
        else:
            counts.late += 1
            length = moment  # the undisturbed run was slower, as on a busy machine
            continue
        assert run(home).wait() == 0
        counts.equal += scores(home / "out")["scores"] == undisturbed_scores
        hidden = [path for path in (home / "out").rglob(".*") if path.name != ".tracked.json"]
        Store(home / "store").prune()  # removes the claim on a unit that was stored just before the kill
        kept = [*(home / "store" / "claims").iterdir(), *(home / "store" / "tmp").iterdir()]
        counts.left += len(hidden) + len([path for path in kept if path.name != "lock"])
    counts.seconds = time.monotonic() - began
    return counts


def main() -> int:
    """Create the tiny pair, kill jobs, print the counts. Returns the exit code."""
    times, seed = (int(given or default) for given, default in zip_longest(sys.argv[1:3], ("40", "0")))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pair").mkdir()
        tiny_pair(Path(folder) / "pair")
        counts = kill_jobs(small_job(Path(folder) / "pair", Path(folder)), Path(folder) / "kills", times, seed)
    print(f"{counts.kills} kills (SIGKILL, SIGTERM, SIGINT by turns), {counts.late} came after the end")
    print(f"scores equal to the undisturbed run's: {counts.equal} of {counts.kills}")
    print(f"unexpected exit codes: {counts.unexpected_codes}; files left over: {counts.left}; {counts.seconds:.0f} s")
    return 0 if counts.equal == counts.kills and not counts.unexpected_codes and not counts.left else 1


if __name__ == "__main__":
    sys.exit(main())
