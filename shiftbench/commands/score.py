"""`shiftbench score`: one job, or a sweep of them."""

from __future__ import annotations

import sys

from shiftbench import configuration, overrides
from shiftbench.errors import InputError
from shiftbench.sweep import command_line


def main(arguments: list[str]) -> int:
    """`shiftbench score`: compose every job's configuration, then run the one, or under -m all of them."""
    configuration.register_resolvers()
    if {"-h", "--help"} & set(arguments):
        print(configuration.help_text())
        return 0
    arguments = overrides.read(arguments, "config", overrides.MULTIRUN)
    settings, _ = command_line.split_arguments(arguments)
    composed = command_line.compose_jobs(arguments)
    if not command_line.is_sweep(arguments):
        return _single(composed[0])
    if composed[0].config.dry_run:
        return _estimated(composed)
    from shiftbench.sweep import submitter

    return submitter.run(composed, settings)


def _single(one: command_line.ComposedJob) -> int:
    from shiftbench import job

    if one.config.gpus != 1:
        raise InputError(
            f"gpus={one.config.gpus} is about the jobs of a sweep: add -m, or spread the models of this job with "
            "pair.base_model.device_map=auto pair.tuned_model.device_map=auto"
        )
    root = configuration.out_folder(one.config)
    job.run(one.config, root if one.config.out else root / one.name, one.suite)
    return 0


def _estimated(composed: list[command_line.ComposedJob]) -> int:
    """What each job of a sweep would take. Returns 2 where one of them would be refused."""
    from shiftbench import job

    code = 0
    for one in composed:
        try:
            job.estimated(one.config, configuration.out_folder(one.config) / one.name)
        except InputError as error:
            print(f"shiftbench: job {one.name} would fail: {error}", file=sys.stderr)
            code = 2
    return code
