"""How often `perf check` cries wolf, and whether it sees a wolf: python -m tests.perf.false_alarms OUT.json [--planted]

One run of the check against the package's baseline, added to OUT.json; whoever wants thirty calls it thirty times.
--planted makes every hot spot a fifth slower in the measuring processes, by spinning after each call for a fifth of the
time that it took; the product knows nothing of it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from shiftbench.perf import baseline, measure
from shiftbench.perf.check import check
from shiftbench.perf.spots import Spot, spots
from shiftbench.system.files import write_whole

PLANTED = 0.2
PROGRAM = (sys.executable, "-m", "tests.perf.false_alarms", "measure")


def slower(call: Callable[[], Any], share: float = PLANTED) -> Callable[[], Any]:
    """The same call, and then as much more of the processor's time as that share of its own."""

    def run() -> Any:
        began = time.process_time()
        result = call()
        until = time.process_time() + share * (time.process_time() - began)
        while time.process_time() < until:
            pass
        return result

    return run


def planted() -> list[Spot]:
    """The hot spots, each a fifth slower."""
    return [dataclasses.replace(spot, ours=slower(spot.ours)) for spot in spots()]


def one_run(plant: bool) -> dict[str, Any]:
    """What one check found: ratios that failed, ratios that were suspect at first, and every slowdown."""
    began = time.monotonic()
    done = check(baseline.read(None), measure.this_machine(), PROGRAM if plant else measure.PROGRAM)
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": done.machine,
        "planted": PLANTED if plant else 0,
        "passed": done.passed,
        "failed": [item.key for item in done.ratios if item.failed],
        "suspect": [item.key for item in done.ratios if item.again],
        "slowdowns": {item.key: round(item.slowdown, 4) for item in done.ratios},
        "rounds": {item.key: item.last.rounds for item in done.ratios},
        "seconds": round(time.monotonic() - began, 1),
        "load": round(os.getloadavg()[0], 2),
    }


def main(path: Path, plant: bool) -> None:
    """Add one run to the file and say what it found."""
    runs = json.loads(path.read_text()) if path.exists() else []
    runs.append(one_run(plant))
    write_whole(path, "[\n" + ",\n".join(map(json.dumps, runs)) + "\n]\n", "OUT")
    print(len(runs), json.dumps(runs[-1]), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "measure":
        measure.main(sys.argv[2], planted)
    else:
        main(Path(sys.argv[1]), "--planted" in sys.argv[2:])
