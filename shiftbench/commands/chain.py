"""`shiftbench chain`: every finding over the checkpoints of a chain of tunings, and what was forgotten."""

from __future__ import annotations

from shiftbench import configuration
from shiftbench.errors import InputError

USAGE = """\
shiftbench chain 'chain=[BASE,STEP1,STEP2]' ['prompts=[SET1,SET2]'] [option=value ...]"""


def main(arguments: list[str]) -> int:
    """Score every checkpoint against the base on every prompt set; write the trajectories."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(configuration.options_help(USAGE, "chain"))
        return 0 if arguments else 2
    config = configuration.compose("chain", arguments)
    if not _is_list(config.chain) or len(config.chain) < 2:
        raise InputError("chain must be a list of a base and at least one checkpoint: 'chain=[BASE,STEP1,STEP2]'")
    names = config.prompts if config.prompts is None or _is_list(config.prompts) else [config.prompts]
    from shiftbench import results
    from shiftbench.estimate import estimate
    from shiftbench.family import asked
    from shiftbench.family.chain import trajectories
    from shiftbench.family.matrix import check_all, planned, score_all
    from shiftbench.family.record import record
    from shiftbench.job import made
    from shiftbench.progress import Progress

    base, *steps = config.chain
    jobs = asked.jobs(config, base, steps, "chain")
    groups = asked.prompt_sets(names, jobs[0], config.dataset.limit, len(steps))
    check_all(jobs, groups)
    if config.dry_run:
        print("\n".join(estimate(planned(job, groups)) for job in jobs))
        return 0
    folder, tracking, bootstrap = configuration.pair_folder(config), made(config.tracking), made(config.bootstrap)
    results.check_folder(folder)
    tracking.check()
    matrix = score_all(jobs, groups, Progress())
    found = trajectories(matrix, asked.owners(names), bootstrap)
    record("chain", config, planned(jobs[-1], groups), matrix, found, folder, tracking)
    return 0


def _is_list(value: object) -> bool:
    from omegaconf import ListConfig

    return isinstance(value, ListConfig)
