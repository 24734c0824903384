"""`shiftbench mixture`: several tuned models of one base, skill by skill."""

from __future__ import annotations

from shiftbench import configuration
from shiftbench.errors import InputError

USAGE = """\
shiftbench mixture base=BASE 'tuned=[A,B,C]' [dataset=NAME] [option=value ...]"""


def main(arguments: list[str]) -> int:
    """Score every tuned model against the base on the prompts of every skill; write how they differ."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(configuration.options_help(USAGE, "mixture"))
        return 0 if arguments else 2
    config = configuration.compose("mixture", arguments)
    from omegaconf import ListConfig

    if not isinstance(config.tuned, ListConfig) or len(config.tuned) < 2:
        raise InputError("tuned must be a list of at least two models: base=BASE 'tuned=[A,B]'")
    from shiftbench import results
    from shiftbench.estimate import estimate
    from shiftbench.family import asked
    from shiftbench.family.matrix import check_all, needs_prompts, planned, score_all
    from shiftbench.family.mixture import by_skill
    from shiftbench.family.record import record
    from shiftbench.job import made
    from shiftbench.progress import Progress

    jobs = asked.jobs(config, config.base, config.tuned, "tuned")
    groups = asked.skills(jobs[0].prompts)
    check_all(jobs, groups)
    if not any(map(needs_prompts, planned(jobs[0], groups).findings.values())):
        raise InputError("no finding of this suite depends on prompts, so skills cannot be told apart; choose another")
    if config.dry_run:
        print("\n".join(estimate(planned(job, groups)) for job in jobs))
        return 0
    folder, tracking, bootstrap = configuration.pair_folder(config), made(config.tracking), made(config.bootstrap)
    results.check_folder(folder)
    tracking.check()
    matrix = score_all(jobs, groups, Progress())
    record("mixture", config, planned(jobs[-1], groups), matrix, by_skill(matrix, bootstrap), folder, tracking)
    return 0
