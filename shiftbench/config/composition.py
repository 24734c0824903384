"""Composing a configuration with Hydra; what does not compose is refused with what to type instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from shiftbench.config.literals import literal, texts_in
from shiftbench.config.names import nearest, nearest_key
from shiftbench.config.targets import check_target
from shiftbench.demo import model_folder
from shiftbench.errors import InputError
from shiftbench.readers import check_text

CONFIG_MODULE = "shiftbench.conf"


def register_resolvers() -> None:
    """What `conf/` may call: the folder of a bundled model."""
    OmegaConf.register_new_resolver("demo_model", model_folder, replace=True)


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """The resolved configuration `name` under overrides; InputError where it does not compose or lacks a value."""
    return compose_with_choices(name, overrides)[0]


def compose_with_choices(name: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """(the resolved configuration, the member that each config group was composed with)."""
    register_resolvers()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            config = hydra_compose(name, overrides=list(overrides), return_hydra_config=True)
        choices = {str(group): str(member) for group, member in config.hydra.runtime.choices.items()}
        with open_dict(config):
            del config.hydra
        missing = sorted(key for key in _dotted(config, "") if _is_missing(config, key))
        if missing:
            raise InputError(f"{missing[0]} is needed: give {missing[0]}=...")
        return _resolved(config), choices
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_explained(error, name, overrides)) from None
    except RecursionError:
        raise InputError("the configuration nests too deeply, or a value is interpolated from itself") from None


def _resolved(config: DictConfig) -> DictConfig:
    """The configuration with every interpolation filled in; a text that then has '${' in it keeps it.

    Raises InputError for a text that no file of results could hold, wherever it comes from: the environment, too.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    texts = list(texts_in(plain, ""))
    for key, text in texts:
        check_text(text, f"{key}={text!a}")
        if key.rpartition(".")[2] == "_target_":
            check_target(key, text)
    if not any("${" in text for _, text in texts):
        OmegaConf.resolve(config)
        return config
    made = literal(plain)  # OmegaConf would fill a resolved text in a second time
    OmegaConf.set_struct(made, True)
    return made


def packaged(name: str) -> DictConfig:
    """The packaged values of one file of a config group, as 'finding/instruction_recognition': the YAML states each
    once, and whatever is not a job takes them from there."""
    group, _, member = name.partition("/")
    return compose("config", ["pair=demo", f"+{group}@one={member}"]).one


def groups() -> dict[str, list[str]]:
    """The config groups a user chooses from, and what each holds."""
    root = resources.files(CONFIG_MODULE)
    found = {}
    for folder in sorted(root.iterdir(), key=lambda item: item.name):
        if folder.is_dir() and not folder.name.startswith("_"):
            found[folder.name] = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
    return {name: members for name, members in found.items() if members}


def _explained(error: Exception, name: str, overrides: Sequence[str]) -> str:
    """Hydra's reason in one line, with the nearest known name where one was mistyped."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, wanted = str(error.missing_cfg_file).rpartition("/")
        return f"there is no {group}={wanted}; {nearest(wanted, groups().get(group, []), f'{group}=')}"
    if "You must specify" in text:
        wanted = re.findall(r"You must specify '(\w+)'", text)[0]
        return f"{wanted} is needed: give {wanted}=NAME; {nearest('', groups().get(wanted, []))}"
    key = next((re.split(r"[=]", o.lstrip("+~"))[0] for o in overrides if _names_key(text, o)), None)
    if key and isinstance(error, ConfigCompositionException):
        return f"there is no option {key!r}; {nearest_key(key, known_keys(name, overrides))}"
    said = " ".join(line.strip() for line in text.splitlines() if line.strip())
    meant = [o for o in overrides if "${" in o]
    if meant and isinstance(error, (InterpolationResolutionError, GrammarParseError)):
        return f"{said}; where {meant[0]!r} means the characters themselves, write \\${{ for ${{"
    return said


def _names_key(text: str, override: str) -> bool:
    return override.lstrip("+~").split("=")[0] in text


def known_keys(name: str, overrides: Sequence[str] = ()) -> list[str]:
    """Dotted keys of the configuration under those overrides that choose a group's member, or do without one."""
    return list(_dotted(_composed_for_names(name, tuple(overrides)), ""))


def default_of(name: str, key: str) -> Any:
    """The value of an option where it is not given; None where there is none."""
    config = _composed_for_names(name, ())
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    known = isinstance(node, DictConfig) and last in node and not OmegaConf.is_missing(node, last)
    return None if not known or OmegaConf.is_interpolation(node, last) else node[last]


@cache
def _composed_for_names(name: str, overrides: tuple[str, ...]) -> DictConfig:
    register_resolvers()
    chosen = [o for o in overrides if o.removeprefix("~").split("=")[0] in groups()]
    if "pair" in _mandatory(name) and not any(o.removeprefix("~").startswith("pair") for o in chosen):
        chosen.append("pair=demo")
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        try:
            return hydra_compose(name, overrides=chosen)
        except (HydraException, OmegaConfBaseException):  # what was chosen is itself what is wrong
            return hydra_compose(name, overrides=["pair=demo"] if _mandatory(name) else [])


def _mandatory(name: str) -> list[str]:
    return ["pair"] if name in ("config", "gate") else []


def _is_missing(config: DictConfig, key: str) -> bool:
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return OmegaConf.is_missing(node, last)


def _dotted(config: DictConfig, prefix: str) -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(config, key) and not OmegaConf.is_interpolation(config, key):
            value = config[key]
            if isinstance(value, DictConfig):
                yield from _dotted(value, f"{prefix}{key}.")
