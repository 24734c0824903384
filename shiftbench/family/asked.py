"""From a configuration to what a chain or a comparison of mixtures is asked for; refuses before any model is loaded."""

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

NO_SKILL = "no skill named"  # a group of prompts, where others name one


def jobs(config: DictConfig, base: str, tuned: Sequence[str], option: str) -> list[Job]:
    """A job a tuned model, equal but for the pair. option: what the user calls the list of models."""
    paths = [str(path) for path in tuned]
    if not paths or len({_same(path) for path in (str(base), *paths)}) < 1 + len(paths):
        raise InputError(f"{option} must name a base and at least one tuned model of it, each once")
    first, *others = (_pair(config, str(base), path) for path in paths)
    config = copy.deepcopy(config)
    config.pair = first
    job = build(config)
    return [job, *(dataclasses.replace(job, pair=instantiate(other)) for other in others)]


def prompt_sets(names: Sequence[str] | None, job: Job, limit: int | None, steps: int) -> dict[str, list[Prompt]]:
    """Prompts by the name of their set, in the order of the steps; None: the job's own."""
    if names is None:
        return {"all prompts": list(job.prompts)}
    if len(names) not in (1, steps):
        raise InputError(f"prompts names {len(names)} sets for {steps} checkpoints; give one each, or one for all")
    sources: dict[str, str] = {}
    found: dict[str, list[Prompt]] = {}
    for source in map(str, names):
        name = _set_name(source)
        if sources.setdefault(name, source) != source:
            raise InputError(f"prompts: {sources[name]} and {source} are both called {name!r}; rename one of the files")
        if name not in found:
            found[name] = _prompts(source, limit)
    return found


def owners(names: Sequence[str] | None) -> dict[str, int]:
    """The step, from 1, that was the first to be tuned toward each set."""
    found: dict[str, int] = {}
    for step, name in enumerate(names or (), start=1):
        found.setdefault(_set_name(str(name)), step)
    return found


def skills(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    """Prompts by skill. Raises InputError where none names one, or all name the same."""
    found: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        found.setdefault(prompt.skill or NO_SKILL, []).append(prompt)
    if len(found) < 2:
        raise InputError(
            f"all {len(prompts)} prompts are of one kind ({next(iter(found))}); take dataset=mt_bench, or a file whose "
            'lines say "skill"'
        )
    return found


def _pair(config: DictConfig, base: str, tuned: str) -> DictConfig:
    """The node of one pair, called by the last part of its tuned model's path."""
    pair = OmegaConf.to_container(config.pair, resolve=True)
    assert isinstance(pair, Mapping)
    name = Path(tuned.rstrip("/")).name or tuned
    made: DictConfig = literals.literal({**pair, "name": name, "base": base, "tuned": tuned})
    return made


def _same(path: str) -> str:
    """One text for all ways to write a folder's path; a hub id stays."""
    folder = path_of(path, "model")
    return str(folder.resolve()) if folder.exists() else path


def _prompts(name: str, limit: int | None) -> list[Prompt]:
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
