"""The command line: one module for each command, with a `main` that takes the arguments after the command's name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from shiftbench.errors import InputError, Unreadable, Unwritable
from shiftbench.system import signals

USAGE = """\
shiftbench measures what instruction tuning changed inside a language model.

  shiftbench score pair=NAME [option=value ...]     score a base/tuned pair on every finding of its suite
  shiftbench score -m pair=A,B,C [...]              one job for each pair; other jobs go on when one fails
  shiftbench sweep status [out=DIR]                 the state of each job of a sweep
  shiftbench leaderboard [option=value ...]         write the tracked pairs as one table: pages and files
  shiftbench chain 'chain=[BASE,STEP1,...]' [...]   score checkpoints of one model in turn, and what was forgotten
  shiftbench mixture base=BASE 'tuned=[A,B]' [...]  compare tuned models of one base, skill by skill
  shiftbench published path=DIR [out=DIR]           compute a paper's tables from its published explanations
  shiftbench annotate check [annotate=NAME ...]     compare an annotator's labels with a reader's labels
  shiftbench store list|verify|prune [...]          list, check or remove the stored explanations
  shiftbench sync [root=DIR] [tracking.uri=URI]     send results to MLflow that it does not have yet
  shiftbench gate pair=NAME against=WHAT [...]      pass or fail a pair's scores, compared with an earlier run
  shiftbench certify [option=value ...]             measure how often verdicts are false
  shiftbench perf record|check [...]                check whether shiftbench is as fast here as before
  shiftbench COMMAND --help                         the options of a command
"""
# The modules of this package; each is imported when its command is run.
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
    "certify",
    "perf",
)


def main(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names, and return the exit code.

    The code is the command's own, and 0 for --help, for --version and without arguments. Bad input (InputError) gives
    one line on standard error and code 2; results that cannot be written (Unwritable) and units of the store that
    cannot be read (Unreadable) give one line and code 1; an interruption gives one line and the code that shells use
    for it (`signals.exit_code`).
    """
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
    except (Unwritable, Unreadable) as error:
        print(f"shiftbench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        with suppress(OSError):  # after SIGHUP the terminal may be gone
            message = f"interrupted{f' by {interrupt}' if str(interrupt) else ''}"
            print(f"shiftbench: {message}; run the same command again to continue from here", file=sys.stderr)
        return signals.exit_code(interrupt)
