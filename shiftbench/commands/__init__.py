"""The command line: one module a command, each with a `main` that takes the words behind its name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from shiftbench.errors import InputError, Unwritable
from shiftbench.system import signals

USAGE = """\
shiftbench measures what instruction tuning changed inside a language model.

  shiftbench score pair=NAME [option=value ...]     score a base/tuned pair on the three shift findings
  shiftbench score -m pair=A,B,C [...]              one job a pair; a failed one stops no other
  shiftbench sweep status [out=DIR]                 what became of the jobs of a sweep
  shiftbench leaderboard [option=value ...]         the tracked pairs as one table: pages and files
  shiftbench chain 'chain=[BASE,STEP1,...]' [...]   every finding over checkpoints, and what was forgotten
  shiftbench mixture base=BASE 'tuned=[A,B]' [...]  several tuned models of one base, skill by skill
  shiftbench published path=DIR [out=DIR]           a paper's tables, from the explanations that it published
  shiftbench annotate check [annotate=NAME ...]     how far an annotator agrees with labels given by hand
  shiftbench store list|verify|prune [...]          the explanations kept on disk
  shiftbench sync [root=DIR] [tracking.uri=URI]     sends to MLflow what could not be sent when it was made
  shiftbench gate pair=NAME against=WHAT [...]      passes or fails a pair's scores against an earlier run's
  shiftbench perf record|check [...]                whether shiftbench is as fast here as it was
  shiftbench COMMAND --help                         what a command can be told
"""
# Each a module here, imported when it is called.
COMMANDS = (
    "score",
    "sweep",
    "leaderboard",
    "chain",
    "mixture",
    "published",
    "annotate",
    "store",
    "sync",
    "gate",
    "perf",
)


def main(arguments: Sequence[str]) -> int:
    """Dispatch on the first argument; bad input ends in one line on standard error and exit code 2."""
    command, rest = (arguments[0], list(arguments[1:])) if arguments else ("--help", [])
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command in ("-V", "--version"):
        import shiftbench

        print(f"shiftbench {shiftbench.__version__}")
        return 0
    try:
        if command not in COMMANDS:
            from shiftbench.config import names

            raise InputError(f"no command {command!r}; {names.nearest(command, COMMANDS)}")
        code: int = import_module(f"shiftbench.commands.{command}").main(rest)
        return code
    except InputError as error:
        print(f"shiftbench: {error}", file=sys.stderr)
        return 2
    except Unwritable as error:
        print(f"shiftbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        with suppress(OSError):  # the terminal may be gone, which is what SIGHUP says
            said = f"interrupted{f' by {interrupt}' if str(interrupt) else ''}"
            print(f"shiftbench: {said}; the same command goes on where this one stopped", file=sys.stderr)
        return signals.exit_code(interrupt)
