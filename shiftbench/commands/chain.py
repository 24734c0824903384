"""`shiftbench chain`: scores every checkpoint of a chain of tunings, and measures what was forgotten."""

from __future__ import annotations

from omegaconf import OmegaConf

from shiftbench.config import composition, help_texts, overrides
from shiftbench.errors import InputError

USAGE = """\
shiftbench chain 'chain=[BASE,STEP1,STEP2]' ['prompts=[SET1,SET2]'] [option=value ...]"""


def main(arguments: list[str]) -> int:
    """Score every checkpoint against the base on every prompt set; write the trajectories and the report.

    With dry_run=true only an estimate is printed. Returns the exit code: 0, or 2 where no argument was given, in which
    case only the help is printed. Raises InputError for bad input.
    """
    if not arguments or {"-h", "--help"} & set(arguments):
        print(help_texts.options_help(USAGE, "chain"))
        return 0 if arguments else 2
    words = overrides.read(arguments, "chain")
    overrides.refuse_without_effect(
        words, overrides.OF_ONE_PAIR, "for a chain, which scores the checkpoints of chain= without controls"
    )
    config = composition.compose("chain", words)
    if not OmegaConf.is_list(config.chain) or len(config.chain) < 2:
        raise InputError("chain must be a list of a base and at least one checkpoint: 'chain=[BASE,STEP1,STEP2]'")
    if config.prompts is not None:
        overrides.refuse_without_effect(words, ("dataset.path",), "with prompts=, which names the prompt sets")
    names = config.prompts if config.prompts is None or OmegaConf.is_list(config.prompts) else [config.prompts]
    from shiftbench.family import inputs
    from shiftbench.family.chain import trajectories
    from shiftbench.family.comparison import run_comparison

    base, *steps = config.chain
    jobs = inputs.build_jobs(config, base, steps, "chain")
    groups = inputs.load_prompt_sets(names, jobs[0], config.dataset.limit, len(steps))
    first_steps = inputs.first_steps(names)
    run_comparison(
        "chain", config, jobs, groups, lambda matrix, bootstrap: trajectories(matrix, first_steps, bootstrap)
    )
    return 0
