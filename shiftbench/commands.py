"""What each command of the command line does."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from shiftbench import configuration
from shiftbench.errors import InputError

USAGE = """\
shiftbench measures what instruction tuning changed inside a language model.

  shiftbench score pair=NAME [option=value ...]     score a base/tuned pair on the three shift findings
  shiftbench score -m pair=A,B,C [...]              one job a pair; a failed one stops no other
  shiftbench store list|verify|prune [...]          the explanations kept on disk
  shiftbench COMMAND --help                         what a command can be told
"""


@dataclass
class Sweep:
    """The jobs of one command: which keys vary between them, and what became of those that failed."""

    varied: tuple[str, ...]
    failures: list[tuple[str, str, int]] = field(default_factory=list)  # job, reason, exit code
    folders: set[Path] = field(default_factory=set)  # where results of earlier jobs went

    def exit_code(self) -> int:
        """0 where no job failed, 2 where all that failed had bad input, else 1."""
        return min((code for _, _, code in self.failures), default=0)


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
    known: dict[str, Callable[[list[str]], int]] = {"score": score, "store": store}
    try:
        if command not in known:
            raise InputError(f"no command {command!r}; {configuration.nearest(command, known)}")
        return known[command](rest)
    except InputError as error:
        print(f"shiftbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("shiftbench: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def score(arguments: list[str]) -> int:
    """`shiftbench score`: compose, check every job's configuration, then run the jobs through Hydra."""
    configuration.register_resolvers()
    if {"-h", "--help"} & set(arguments):
        print(configuration.help_text())
        return 0
    sweep = Sweep(configuration.check(arguments))
    configuration.launch(arguments, lambda config: run_job(config, sweep))
    if len(sweep.failures) == 1 and not sweep.varied:
        return sweep.failures[0][2]
    for job, reason, _ in sweep.failures:
        print(f"shiftbench: job {job} failed: {reason}", file=sys.stderr)
    return sweep.exit_code()


def run_job(config: DictConfig, sweep: Sweep) -> None:
    """One job of a sweep; its failure is told at once and remembered for the end, and stops no other job."""
    from shiftbench import job

    name = configuration.job_name(config, sweep.varied)
    folder = configuration.out_folder(config, sweep.varied)
    try:
        if folder in sweep.folders:
            raise InputError(f"two jobs of this sweep would write to {folder}; give their pairs different names")
        sweep.folders.add(folder)
        job.run(config, folder)
    except InputError as error:
        print(f"shiftbench: {error}", file=sys.stderr)
        sweep.failures.append((name, str(error), 2))
    except Exception as error:
        traceback.print_exc()
        sweep.failures.append((name, f"{type(error).__name__}: {error}".splitlines()[0], 1))


def store(arguments: list[str]) -> int:
    """`shiftbench store list|verify|prune`."""
    from shiftbench import store as stored

    verbs = {"list": stored.list_lines, "verify": stored.verify_lines, "prune": stored.prune_lines}
    if not arguments or {"-h", "--help"} & set(arguments):
        print(configuration.store_help_text())
        return 0 if arguments else 2
    verb, overrides = arguments[0], arguments[1:]
    if verb not in verbs:
        raise InputError(f"no command 'store {verb}'; {configuration.nearest(verb, verbs)}")
    config = configuration.compose("store", overrides)
    damaged = verbs[verb](config)
    return 1 if damaged else 0
