"""`shiftbench score`: runs one job, or with -m a sweep of several."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from shiftbench.config import composition, folders, help_texts, overrides
from shiftbench.errors import InputError
from shiftbench.sweep import command_line


def main(arguments: list[str]) -> int:
    """Compose the configuration of every requested job; then run the one job, or with -m all jobs of the sweep.

    Returns the exit code: 0 where all is done. For a sweep in which jobs failed, it is 2 where each of them failed of
    bad input, else 1. With dry_run=true nothing is scored, and an estimate is printed for each job; the code is 2 where
    a job of a sweep would be refused. Raises InputError for bad input.
    """
    composition.register_resolvers()
    if {"-h", "--help"} & set(arguments):
        print(help_texts.help_text())
        return 0
    arguments = overrides.read(arguments, "config", overrides.MULTIRUN)
    settings, _ = command_line.split_arguments(arguments)
    composed = command_line.compose_jobs(arguments)
    _check_json(composed[0].config, command_line.is_sweep(arguments))
    if not command_line.is_sweep(arguments):
        return _single(composed[0])
    if composed[0].config.dry_run:
        return _estimated(composed)
    from shiftbench.sweep import submitter

    return submitter.run(composed, settings)


def _single(one: command_line.ComposedJob) -> int:
    """Score one pair, write its results, send the run to MLflow, and print the results. Returns the exit code 0.

    The results are written to `out`, or to ./shiftbench-runs/NAME, with the name of the job, where `out` is null.
    With json=true scores.json is printed instead. With dry_run=true nothing is scored, and the estimate is printed.
    """
    from shiftbench.config.instantiation import instantiate
    from shiftbench.pipeline.progress import Progress
    from shiftbench.pipeline.recording import show
    from shiftbench.pipeline.run import dry_run, run
    from shiftbench.tracking import Tracking, send_run

    if one.config.gpus != 1:
        raise InputError(
            f"gpus={one.config.gpus} has an effect only in a sweep: add -m, or spread the models of this job with "
            "pair.base_model.device_map=auto pair.tuned_model.device_map=auto"
        )
    root = folders.out_folder(one.config)
    folder = root if one.config.out else root / one.name
    if one.config.dry_run:
        print(dry_run(one.config, folder))
        return 0
    tracking: Tracking = instantiate(one.config.tracking)
    recorded = run(one.config, folder, one.suite, Progress(), given=one.overrides, before=tracking.check)
    run_id = send_run(tracking, folder, parent=None)
    if one.config.json:
        print((folder / "scores.json").read_text(encoding="utf-8"), end="", flush=True)
        return 0
    show(recorded, one.config.verbose)
    if run_id is not None and one.config.verbose:
        print(f"tracked as run {run_id}; to look at it: {tracking.ui_command()}")
    print(f"report: {recorded.report}", flush=True)
    return 0


def _check_json(config: DictConfig, sweep: bool) -> None:
    """Raise InputError where json=true is given with an option that prints something else than one scores.json."""
    if not config.json:
        return
    if sweep:
        raise InputError("json=true prints one scores.json, and -m runs several jobs; each writes its own to OUT/PAIR")
    for option in ("verbose", "dry_run"):
        if config[option]:
            raise InputError(f"json=true prints scores.json alone, and {option}=true prints more; give one of them")


def _estimated(composed: list[command_line.ComposedJob]) -> int:
    """Print the estimate of each job of a sweep. Returns 2 where a job would be refused, else 0."""
    from shiftbench.pipeline.run import dry_run

    code = 0
    for one in composed:
        try:
            print(dry_run(one.config, folders.out_folder(one.config) / one.name))
        except InputError as error:
            print(f"shiftbench: job {one.name} would fail: {error}", file=sys.stderr)
            code = 2
    return code
