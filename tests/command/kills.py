"""Kills a small job at random moments, lets it finish, and compares its scores with those of an undisturbed run.

    python tests/command/kills.py [TIMES [SEED]]     40 kills by default

Prints the figures; the exit code is 1 where a score differs, an exit code is none of the signal's, or a file is left
over. Each kill is SIGKILL, SIGTERM or SIGINT by turns, at a moment between the start and the usual end of the job.
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
class Figures:
    """kills: sent to a job that ran. late: the job had ended before. odd: exit codes that no such signal gives.

    equal: jobs whose scores were the undisturbed run's, once they were let finish. left: hidden files in folders of
    results, and whatever `shiftbench store prune` leaves under a store's claims and tmp, that were still there then.
    """

    kills: int = 0
    late: int = 0
    equal: int = 0
    odd: int = 0
    left: int = 0
    seconds: float = 0.0


def in_a_process(words: list[str], log: Path) -> Any:
    """The command line in a new interpreter, its output into a file."""
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, "-m", "shiftbench", *words], stdout=file, stderr=file)


def killed(
    asked: Mapping[str, str],
    place: Path,
    times: int,
    seed: int = 0,
    start: Callable[[list[str], Path], Any] = in_a_process,
) -> Figures:
    """Figures of so many kills. asked: a job's options; place: a folder for results and stores. start: a process."""
    drawn = random.Random(seed)
    place.mkdir(parents=True)
    began = time.monotonic()

    def run(home: Path) -> Any:
        home.mkdir(exist_ok=True)
        return start(arguments({**asked, "store.path": str(home / "store"), "out": str(home / "out")}), home / "log")

    assert run(place / "undisturbed").wait() == 0
    length = time.monotonic() - began
    wanted = scores(place / "undisturbed" / "out")["scores"]
    figures = Figures()
    number = 0
    while figures.kills < times:
        home = place / f"job-{number}"
        kind = SIGNALS[number % len(SIGNALS)]
        number += 1
        process = run(home)
        time.sleep(drawn.uniform(0.05, length))
        if process.poll() is None:
            process.send_signal(kind)
            code = process.wait(60)
            figures.kills += 1
            figures.odd += code not in CODES[kind] and code != 0  # 0: it had done all when the signal came
        else:
            figures.late += 1
            continue
        assert run(home).wait() == 0
        figures.equal += scores(home / "out")["scores"] == wanted
        hidden = [path for path in (home / "out").rglob(".*") if path.name != ".tracked.json"]
        Store(home / "store").prune()  # a claim on a unit that was stored just before the kill stays until then
        kept = [*(home / "store" / "claims").iterdir(), *(home / "store" / "tmp").iterdir()]
        figures.left += len(hidden) + len([path for path in kept if path.name != "lock"])
    figures.seconds = time.monotonic() - began
    return figures


def main() -> int:
    """Make the tiny pair, kill, print."""
    times, seed = (int(given or default) for given, default in zip_longest(sys.argv[1:3], ("40", "0")))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pair").mkdir()
        tiny_pair(Path(folder) / "pair")
        found = killed(small_job(Path(folder) / "pair", Path(folder)), Path(folder) / "kills", times, seed)
    print(f"{found.kills} kills (SIGKILL, SIGTERM, SIGINT by turns), {found.late} came after the end")
    print(f"scores equal to the undisturbed run's: {found.equal} of {found.kills}")
    print(f"exit codes that no such signal gives: {found.odd}; files left over: {found.left}; {found.seconds:.0f} s")
    return 0 if found.equal == found.kills and not found.odd and not found.left else 1


if __name__ == "__main__":
    sys.exit(main())
