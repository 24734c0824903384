"""`shiftbench mixture`: compares several tuned models of one base, skill by skill."""

from __future__ import annotations

from omegaconf import OmegaConf

from shiftbench.config import composition, help_texts, overrides
from shiftbench.errors import InputError

USAGE = """\
shiftbench mixture base=BASE 'tuned=[A,B,C]' [dataset=NAME] [option=value ...]"""


def main(arguments: list[str]) -> int:
    """Score every tuned model against the base on the prompts of every skill; write how the models differ.

    With dry_run=true only an estimate is printed. Returns the exit code: 0, or 2 where no argument was given, in which
    case only the help is printed. Raises InputError for bad input.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(help_texts.options_help(USAGE, "mixture"))
        return 0 if arguments else 2
    words = overrides.read(arguments, "mixture")
    overrides.refuse_without_effect(
        words, overrides.OF_ONE_PAIR, "for mixtures, whose models are named by base= and tuned="
    )
    config = composition.compose("mixture", words)
    if not OmegaConf.is_list(config.tuned) or len(config.tuned) < 2:
        raise InputError("tuned must be a list of at least two models: base=BASE 'tuned=[A,B]'")
    from shiftbench.family import inputs
    from shiftbench.family.comparison import run_comparison
    from shiftbench.family.mixture import by_skill, check_findings

    jobs = inputs.build_jobs(config, config.base, config.tuned, "tuned")
    groups = inputs.group_by_skill(jobs[0].prompts)
    check_findings(jobs[0].findings)
    run_comparison("mixture", config, jobs, groups, by_skill)
    return 0
