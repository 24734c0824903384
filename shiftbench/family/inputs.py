"""The jobs and the groups of prompts that a configuration of a chain or of mixtures requests.

No model is loaded here.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from shiftbench.config import composition, folders, literals
from shiftbench.config.instantiation import instantiate
from shiftbench.errors import InputError
from shiftbench.pipeline.job import Job, build
from shiftbench.prompts import Prompt
from shiftbench.prompts.datasets.jsonl import Jsonl
from shiftbench.readers import path_of

NO_SKILL = "no skill named"  # the group of the prompts that name no skill, where other prompts name one


def build_jobs(config: DictConfig, base: str, tuned: Sequence[str], option: str) -> list[Job]:
    """One job for each tuned model, in the order of `tuned`; the jobs differ in their pair alone.

    config: the configuration of the whole run. base: the path or hub id of the base; tuned: those of the tuned models.
    option: the name of the option with the list of models, for messages. Raises InputError where there is no tuned
    model, where a model (the base too) is named twice, or where the configuration is refused.
    """
    paths = [str(path) for path in tuned]
    if not paths or len({_normalise_path(path) for path in (str(base), *paths)}) < 1 + len(paths):
        raise InputError(f"{option} must name a base and at least one tuned model of it, each once")
    first, *others = (_pair_config(config, str(base), path) for path in paths)
    config = copy.deepcopy(config)
    config.pair = first
    job = build(config)
    return [job, *(dataclasses.replace(job, pair=instantiate(other)) for other in others)]


def load_prompt_sets(names: Sequence[str] | None, job: Job, limit: int | None, steps: int) -> dict[str, list[Prompt]]:
    """The prompts of each set, by the set's name, in the order in which the steps of a chain first use the sets.

    names: the sets of the steps, as packaged datasets or files: one for each step, or one for all steps. A set that
    several steps use is given once. The name of a file's set is the file's name without its last ending, made a valid
    file name (folders.file_name). Where names is None, the job's prompts are one set, "all prompts". limit: the most
    prompts that are read of a set; None: all. steps: the number of steps. Raises InputError for another number of sets,
    for two different sets of the same name, and for a set that cannot be read.
    """
    if names is None:
        return {"all prompts": list(job.prompts)}
    if len(names) not in (1, steps):
        raise InputError(f"prompts names {len(names)} sets for {steps} checkpoints; give one for each, or one for all")
    sources: dict[str, str] = {}
    by_name: dict[str, list[Prompt]] = {}
    for source in map(str, names):
        name = _set_name(source)
        if sources.setdefault(name, source) != source:
            raise InputError(f"prompts: {sources[name]} and {source} are both called {name!r}; rename one of the files")
        if name not in by_name:
            by_name[name] = _load_prompts(source, limit)
    return by_name


def first_steps(names: Sequence[str] | None) -> dict[str, int]:
    """For each set of prompts, by its name, the number (from 1) of the first step that was tuned toward it.

    names: the sets of the steps, in order, as for load_prompt_sets; None gives an empty dict.
    """
    steps: dict[str, int] = {}
    for step, name in enumerate(names or (), start=1):
        steps.setdefault(_set_name(str(name)), step)
    return steps


def group_by_skill(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    """The prompts of each skill, by the skill's name, in the order in which the prompts first name the skills.

    Prompts that name no skill are the group NO_SKILL.
    Raises InputError where there is one group only, as where no prompt names a skill or all name the same.
    """
    by_skill: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_skill.setdefault(prompt.skill or NO_SKILL, []).append(prompt)
    if len(by_skill) < 2:
        raise InputError(
            f"all {len(prompts)} prompts have one skill ({next(iter(by_skill))}); take dataset=mt_bench, or a file "
            'with a "skill" in its lines'
        )
    return by_skill


def _pair_config(config: DictConfig, base: str, tuned: str) -> DictConfig:
    """A copy of config.pair with this base and tuned model; its name is the last part of `tuned`, a path or hub id."""
    pair = OmegaConf.to_container(config.pair, resolve=True)
    assert isinstance(pair, Mapping)
    name = Path(tuned.rstrip("/")).name or tuned
    pair_config: DictConfig = literals.literal({**pair, "name": name, "base": base, "tuned": tuned})
    return pair_config


def _normalise_path(path: str) -> str:
    """The absolute path, with symbolic links resolved, so that each folder has one spelling.

    A path that does not exist, such as a hub id, stays as it is.
    """
    folder = path_of(path, "model")
    return str(folder.resolve()) if folder.exists() else path


def _load_prompts(name: str, limit: int | None) -> list[Prompt]:
    packaged = [known for known in composition.groups()["dataset"] if known != "jsonl"]
    if name in packaged:
        node = composition.packaged(f"dataset/{name}")
        node.limit = limit
        return list(instantiate(node)())
    if not path_of(name, "prompts").is_file():
        raise InputError(f"prompts: {name!r} is neither a file nor one of {', '.join(packaged)}")
    return Jsonl(name, limit)()


def _set_name(name: str) -> str:
    return folders.file_name(Path(name).stem)
