"""The jobs that a command line of `shiftbench score` requests: one job, or every combination of a sweep.

All are composed before any of them runs.
"""

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
from shiftbench.config.names import nearest
from shiftbench.errors import InputError
from shiftbench.tracking import without_secrets

FLAGS = {"-m", "--multirun"}
SEARCHPATH = "hydra.searchpath="  # says where the jobs' configs are found; all other hydra options are the launcher's
MAX_NAME_BYTES = 200  # of the name of a job's folder; file systems allow 255


@dataclass(frozen=True)
class ComposedJob:
    """One job: its configuration, the overrides that it was composed from, and the name of its results folder."""

    config: DictConfig
    overrides: tuple[str, ...]
    name: str
    suite: str  # the name of the config that chose its findings and prompts


def compose_jobs(arguments: Sequence[str]) -> list[ComposedJob]:
    """Compose every job that the arguments request: one job, or with -m one for each combination of values.

    A suite may name keys that it sweeps over, with their values (hydra.sweeper.params); where the arguments set such a
    key, their values replace the suite's. The last key of the arguments varies faster than
    those before it, and a suite's keys vary faster than all of them. Raises InputError for arguments that
    `split_arguments` refuses, for a glob(...) that matches nothing, for a configuration that does not compose, and for
    a suite that sweeps over several values where -m is missing.
    """
    _, overrides = split_arguments(arguments)
    sweeping = is_sweep(arguments)
    set_in_arguments = {override.get_key_element() for override in overrides}
    override_lists, varied = [], [o.get_key_element() for o in overrides if o.is_sweep_override()]
    for combination in itertools.product(*map(_expand, overrides)):
        suite = next((text.partition("=")[2] for text in combination if text.startswith("suite=")), None)
        suite_params = {key: values for key, values in _suite_params(suite).items() if key not in set_in_arguments}
        multiple = [key for key, values in suite_params.items() if len(values) > 1]
        if multiple and not sweeping:
            raise InputError(_missing_m_message(suite, {key: suite_params[key] for key in multiple}))
        varied += [key for key in multiple if key not in varied]
        override_lists += [[*extra, *combination] for extra in itertools.product(*suite_params.values())]
    return [_compose(texts, varied) for texts in override_lists]


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[Override]]:
    """(options of Hydra itself, overrides of the jobs), both in the order of the arguments, without -m.

    The first list has the texts that begin with hydra/ or hydra., such as hydra/launcher=joblib, except
    hydra.searchpath=...; the second has parsed overrides. Raises InputError for another option
    that begins with "-", for an override that cannot be parsed, for several values or an option of Hydra without
    -m, and for an option of Hydra's sweeper.
    """
    texts = [argument for argument in arguments if argument not in FLAGS]
    unknown = [text for text in texts if text.startswith("-")]
    if unknown:
        raise InputError(f"option {unknown[0]!r} is not known; options are written key=value, and -m asks for a sweep")
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
        raise InputError(f"{sweeper[0].split('=')[0]} cannot be set: a sweep runs every combination of the values")
    return launcher, overrides


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for a sweep, by -m or --multirun."""
    return bool(FLAGS & set(arguments))


def _compose(texts: Sequence[str], varied: Sequence[str]) -> ComposedJob:
    config, choices = compose_with_choices("config", texts)
    return ComposedJob(config, tuple(texts), job_name(config, varied, choices), choices["suite"])


def _expand(override: Override) -> list[str]:
    """The overrides with one value each that an override stands for: pair=a and pair=b for pair=a,b.

    glob(...) stands for the members of the config group that match it; InputError is raised where there are none. An
    override with one value stands for itself.
    """
    if not override.is_sweep_override():
        return [override.input_line or ""]
    value = override.value()
    if isinstance(value, Glob):
        known = groups().get(override.key_or_group, [])
        members = value.filter(known)
        if not members:
            what = f"{override.input_line} matches no config of the group {override.key_or_group!r}"
            raise InputError(f"{what}: {nearest('', known)}")
        return [f"{override.key_or_group}={member}" for member in members]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


@cache
def _suite_params(suite: str | None) -> dict[str, list[str]]:
    """The keys that a suite sweeps over, each with one override for each of its values: {"pair": ["pair=a", "pair=b"]}.

    Empty where the suite sweeps over nothing, where it is None, and where there is no suite of this name.
    """
    if suite is None or suite not in groups()["suite"]:  # composing the job raises the error about an unknown suite
        return {}
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", [f"suite={suite}"], run_mode=RunMode.MULTIRUN)
    params = config.hydra.sweeper.params or {}
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return {override.get_key_element(): _expand(override) for override in parsed}


def _missing_m_message(suite: str | None, multiple: dict[str, list[str]]) -> str:
    key, texts = next(iter(multiple.items()))
    values = [text.partition("=")[2] for text in texts]
    return (
        f"suite={suite} is a sweep over {key} ({', '.join(values)}): add -m to run one job for each, "
        f"or give {key}={values[0]} for one"
    )


def job_name(config: Any, varied: Sequence[str], choices: Mapping[str, str]) -> str:
    """The pair's name, followed by KEY=VALUE for every other key that varies in the sweep; safe as a file name.

    The parts are joined by commas; a URI as a VALUE is without its secrets. varied: the keys that vary. choices: for
    each config group, the name of the config that was chosen; for a group, this name is the VALUE. A name of more than
    MAX_NAME_BYTES bytes is cut and ends in a digest of the whole name; with the digest it has at most that many bytes.
    """
    others = [(key, choices.get(key) or OmegaConf.select(config, key)) for key in varied if key != "pair"]
    parts = [pair_name(config.pair), *(f"{key}={without_secrets(str(value))}" for key, value in others)]
    name = file_name(",".join(parts))
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.encode()[: MAX_NAME_BYTES - 13].decode(errors="ignore") + "-" + digest
