"""What a command line asks `shiftbench score` for: one job, or every combination of a sweep, composed up front."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from shiftbench.config.composition import CONFIG_MODULE, compose_with_choices, groups
from shiftbench.config.folders import file_name, pair_name
from shiftbench.errors import InputError

FLAGS = {"-m", "--multirun"}
SEARCHPATH = "hydra.searchpath="  # a folder of the user's own configs: about what a job is, not how it is started
NAME_BYTES = 200  # of a job's folder; file systems take 255, and files in it want their share


@dataclass(frozen=True)
class Composed:
    """One job as it was asked for: its resolved configuration, and the name that its results go under."""

    config: DictConfig
    overrides: tuple[str, ...]
    name: str
    suite: str  # the file that chose findings and prompts


def jobs(arguments: Sequence[str]) -> list[Composed]:
    """Every job that the arguments ask for, composed before anything runs: one, or under -m one a combination.

    A suite may name what it sweeps over (hydra.sweeper.params); what the arguments give themselves goes before that.
    """
    _, overrides = split(arguments)
    sweeping = is_sweep(arguments)
    given = {override.get_key_element() for override in overrides}
    found, varied = [], [o.get_key_element() for o in overrides if o.is_sweep_override()]
    for combination in itertools.product(*map(_values, overrides)):
        suite = next((text.partition("=")[2] for text in combination if text.startswith("suite=")), None)
        own = {key: values for key, values in _suite_params(suite).items() if key not in given}
        several = [key for key, values in own.items() if len(values) > 1]
        if several and not sweeping:
            raise InputError(_needs_m(suite, {key: own[key] for key in several}))
        varied += [key for key in several if key not in varied]
        found += [[*extra, *combination] for extra in itertools.product(*own.values())]
    return [_composed(texts, varied) for texts in found]


def split(arguments: Sequence[str]) -> tuple[list[str], list[Override]]:
    """(what is said to Hydra's launcher, what is said about the jobs), refusing what cannot be read."""
    texts = [argument for argument in arguments if argument not in FLAGS]
    unknown = [text for text in texts if text.startswith("-")]
    if unknown:
        raise InputError(f"option {unknown[0]!r} is not known; options are written key=value (-m: a sweep)")
    launcher = [text for text in texts if text.startswith(("hydra/", "hydra.")) and not text.startswith(SEARCHPATH)]
    try:
        overrides = OverridesParser.create().parse_overrides([text for text in texts if text not in launcher])
    except HydraException as error:
        raise InputError(f"cannot read the arguments: {str(error).splitlines()[0]}") from None
    varied = [override for override in overrides if override.is_sweep_override()]
    if varied and not is_sweep(arguments):
        raise InputError(f"{varied[0].input_line} names several values: add -m to run one job for each")
    if launcher and not is_sweep(arguments):
        raise InputError(f"{launcher[0]} is about the jobs of a sweep: add -m")
    sweeper = [text for text in launcher if text.startswith(("hydra/sweeper", "hydra.sweep"))]
    if sweeper:
        raise InputError(f"{sweeper[0].split('=')[0]} cannot be set: a sweep runs every combination that it is given")
    return launcher, overrides


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether -m is among the arguments."""
    return bool(FLAGS & set(arguments))


def _composed(texts: Sequence[str], varied: Sequence[str]) -> Composed:
    config, choices = compose_with_choices("config", texts)
    return Composed(config, tuple(texts), job_name(config, varied, choices), choices["suite"])


def _values(override: Override) -> list[str]:
    """An override as those of single jobs, one for each of its values."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    value = override.value()
    if isinstance(value, Glob):
        members = value.filter(groups().get(override.key_or_group, []))
        return [f"{override.key_or_group}={member}" for member in members]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


@cache
def _suite_params(suite: str | None) -> dict[str, list[str]]:
    """What a suite itself sweeps over: its keys, each with the overrides that set its values."""
    if suite is None or suite not in groups()["suite"]:  # composing says what is wrong with it
        return {}
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", [f"suite={suite}"], run_mode=RunMode.MULTIRUN)
    params = config.hydra.sweeper.params or {}
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return {override.get_key_element(): _values(override) for override in parsed}


def _needs_m(suite: str | None, several: dict[str, list[str]]) -> str:
    key, texts = next(iter(several.items()))
    values = [text.partition("=")[2] for text in texts]
    return (
        f"suite={suite} is a sweep over {key} ({', '.join(values)}): add -m to run one job for each, "
        f"or give {key}={values[0]} for one"
    )


def job_name(config: Any, varied: Sequence[str], choices: Mapping[str, str]) -> str:
    """The pair's name, followed by whatever else varies in the sweep; safe as a file name.

    choices: of each config group, the member's name.
    """
    others = [(key, choices.get(key) or OmegaConf.select(config, key)) for key in varied if key != "pair"]
    parts = [pair_name(config.pair), *(f"{key}={value}" for key, value in others)]
    name = file_name(",".join(parts))
    if len(name.encode()) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.encode()[: NAME_BYTES - 13].decode(errors="ignore") + "-" + digest
