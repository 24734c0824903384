"""`shiftbench sync`: sends to MLflow the results that it lacks because a server was down or a job was killed."""

from __future__ import annotations

import sys
from pathlib import Path

from hydra.utils import instantiate

from shiftbench.config import composition, help_texts, literals
from shiftbench.config.overrides import read
from shiftbench.errors import InputError
from shiftbench.readers import path_of
from shiftbench.tracking import OFF, Tracking, Unreachable, is_pending, pending_folders, send_run


def main(arguments: list[str]) -> int:
    """Send to MLflow all results below `root` that it does not have yet, and print a line for each.

    Returns the exit code: 1 where some could not be sent, else 0. Raises InputError where `root` is no folder, and
    where tracking=none names no place to send to.
    """
    if {"-h", "--help"} & set(arguments):
        print(help_texts.options_help("shiftbench sync [root=DIR] [tracking.uri=URI]", "sync"))
        return 0
    config = composition.compose("sync", read(arguments, "sync"))
    root = path_of(str(config.root), "root").absolute()
    tracking = instantiate(literals.instantiable(config.tracking))
    if not root.is_dir():
        raise InputError(f"root={config.root} is no folder; results are in ./shiftbench-runs unless out=DIR was given")
    if tracking.address == OFF:
        raise InputError("tracking=none names no place to send results to; give tracking.uri=URI")
    waiting = pending_folders(root, tracking)
    if not waiting:
        print(f"nothing to send: {tracking.shown} has all results below {root}")
        return 0
    return send_all(waiting, tracking)


def send_all(waiting: list[Path], tracking: Tracking) -> int:
    """Send the results in the folders, one after another, and print a line for each that was sent.

    Where MLflow does not answer, the remaining folders are not tried; where it refuses one folder, they are. Returns 0
    where all were sent, else 1.
    """
    failed = 0
    try:
        tracking.reach()
        for folder in waiting:
            run_id = send_run(tracking, folder, None)  # None where it could not be sent; then send_run logs the reason
            if run_id:
                print(f"{folder}: run {run_id}", flush=True)
            else:
                failed += 1
                tracking.reach()
    except Unreachable as error:
        left = sum(is_pending(folder, tracking) for folder in waiting)
        print(f"shiftbench: {error}; {left} of {len(waiting)} results wait", file=sys.stderr)
        return 1
    print(f"sent {len(waiting) - failed} of {len(waiting)} to {tracking.shown}")
    return 1 if failed else 0
