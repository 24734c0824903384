"""`shiftbench sweep status`: prints the state of each job of a sweep."""

from __future__ import annotations

import sys

from shiftbench.config import composition, folders, help_texts, names
from shiftbench.config.overrides import read
from shiftbench.errors import InputError

PIPE_WIDTH = 160  # columns of the table where the output is no terminal


def main(arguments: list[str]) -> int:
    """`sweep status`: print the state of each job of the sweep in the folder `out`.

    Returns the exit code: 0 where every job is done, else 1. Without arguments the help is printed and the code is 2.
    Raises InputError for any other verb than status.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(help_texts.options_help("shiftbench sweep status [out=DIR]", "sweep"))
        return 0 if arguments else 2
    if arguments[0] != "status":
        raise InputError(f"no command 'sweep {arguments[0]}'; {names.nearest(arguments[0], ['status'])}")
    from rich.console import Console

    from shiftbench.sweep.ledger import DONE, Ledger
    from shiftbench.sweep.watch import table

    statuses = Ledger(folders.out_folder(composition.compose("sweep", read(arguments[1:], "sweep")))).statuses()
    console = Console(file=sys.stdout)
    (console if console.is_terminal else Console(file=sys.stdout, width=PIPE_WIDTH)).print(table(statuses))
    states = [status.state for status in statuses]
    print(", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)))
    return 0 if set(states) <= {DONE} else 1
