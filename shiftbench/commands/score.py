"""`shiftbench score`: one job, or a sweep of them."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from shiftbench import configuration
from shiftbench.errors import InputError


@dataclass
class Sweep:
    """The jobs of one command: which keys vary between them, and what became of those that failed."""

    varied: tuple[str, ...]
    failures: list[tuple[str, str, int]] = field(default_factory=list)  # job, reason, exit code
    folders: set[Path] = field(default_factory=set)  # where results of earlier jobs went

    def exit_code(self) -> int:
        """0 where no job failed, 2 where all that failed had bad input, else 1."""
        return min((code for _, _, code in self.failures), default=0)


def main(arguments: list[str]) -> int:
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
        job.run(config, folder, configuration.chosen("suite"))
    except InputError as error:
        print(f"shiftbench: {error}", file=sys.stderr)
        sweep.failures.append((name, str(error), 2))
    except Exception as error:
        traceback.print_exc()
        sweep.failures.append((name, f"{type(error).__name__}: {error}".splitlines()[0], 1))
