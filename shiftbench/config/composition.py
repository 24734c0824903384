"""Composes a configuration with Hydra.

Arguments that do not compose are refused by an InputError with the reason and, where it is known, what to type instead.
"""

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
    """Define the function that files in conf/ may call: `${demo_model:NAME}` is the folder of a bundled model."""
    OmegaConf.register_new_resolver("demo_model", model_folder, replace=True)


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration conf/NAME.yaml with the overrides applied and every interpolation filled in.

    name: NAME, for example 'config' for `shiftbench score`. overrides: in Hydra's grammar. Raises InputError where the
    configuration does not compose, where a value that must be given is missing, and as `_resolved` does.
    """
    return compose_with_choices(name, overrides)[0]


def compose_with_choices(name: str, overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """(the configuration as `compose` returns it, the chosen member of each config group).

    The second is a dict from the group's name to the member's, for example {'suite': 'all', 'pair': 'demo'}. A group
    whose member is put at another place has the name GROUP@PLACE, and Hydra's own groups are among them. Raises
    InputError as `compose` does.
    """
    register_resolvers()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            config = hydra_compose(name, overrides=list(overrides), return_hydra_config=True)
        choices = {str(group): str(member) for group, member in config.hydra.runtime.choices.items()}
        with open_dict(config):
            del config.hydra
        missing = sorted(key for key in _dotted_keys(config, "") if _is_missing(config, key))
        if missing:
            raise InputError(f"{missing[0]} has no value; give {missing[0]}=VALUE")
        return _resolved(config), choices
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_reason(error, name, overrides)) from None
    except RecursionError:
        raise InputError("the configuration nests too deeply, or a value is interpolated from itself") from None


def _resolved(config: DictConfig) -> DictConfig:
    """The configuration with every interpolation filled in. A '${' that an interpolation inserted stays as it is.

    Raises InputError for a text that cannot be written to a file of results, wherever the text comes from: an
    environment variable may hold such a text. Raises it too for the `_target_` of a class that has moved.
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
    resolved: DictConfig = literal(plain)  # OmegaConf would interpolate the resolved text a second time
    OmegaConf.set_struct(resolved, True)
    return resolved


def packaged(name: str) -> DictConfig:
    """The option values of one YAML file in conf/, as they come with shiftbench.

    name: GROUP/MEMBER, for example 'finding/instruction_recognition'. Interpolations have the values of a job with
    pair=demo. The notebook API reads its options here, so that the defaults are not written a second time in Python.
    """
    group, _, member = name.partition("/")
    part: DictConfig = compose("config", ["pair=demo", f"+{group}@one={member}"]).one
    return part


def groups() -> dict[str, list[str]]:
    """The config groups (the folders of conf/) and the names of each group's members, both in alphabetical order."""
    root = resources.files(CONFIG_MODULE)
    found = {}
    for folder in sorted(root.iterdir(), key=lambda item: item.name):
        if folder.is_dir() and not folder.name.startswith("_"):
            found[folder.name] = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
    return {name: members for name, members in found.items() if members}


def _reason(error: Exception, name: str, overrides: Sequence[str]) -> str:
    """The message for a configuration that does not compose: Hydra's reason in one line, or one of ours.

    error: what Hydra or OmegaConf raised. name, overrides: as for `compose`. Where the error is a config file or an
    option that does not exist, the message suggests the most similar name that exists, if any is similar; where no
    member of a group is chosen, or where '${' in an override may not be meant as an interpolation, it says what to
    type.
    """
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, wanted = str(error.missing_cfg_file).rpartition("/")
        return f"there is no {group}={wanted}; {nearest(wanted, groups().get(group, []), f'{group}=')}"
    if "You must specify" in text:
        wanted = re.findall(r"You must specify '(\w+)'", text)[0]
        return f"no {wanted} is chosen; give {wanted}=NAME; {nearest('', groups().get(wanted, []))}"
    key = next((re.split(r"[=]", o.lstrip("+~"))[0] for o in overrides if _names_key(text, o)), None)
    if key and isinstance(error, ConfigCompositionException):
        return f"there is no option {key!r}; {nearest_key(key, known_keys(name, overrides))}"
    reason = " ".join(line.strip() for line in text.splitlines() if line.strip())
    interpolated = [o for o in overrides if "${" in o]
    if interpolated and isinstance(error, (InterpolationResolutionError, GrammarParseError)):
        return f"{reason}; if ${{ in {interpolated[0]!r} is not an interpolation but part of the text, write \\${{"
    return reason


def _names_key(text: str, override: str) -> bool:
    """Whether an error's text contains the key of an override, without the marks + and ~ in front."""
    return override.lstrip("+~").split("=")[0] in text


def known_keys(name: str, overrides: Sequence[str] = ()) -> list[str]:
    """The dotted keys of the configuration conf/NAME.yaml, for suggestions.

    Of the overrides, those of the forms GROUP=MEMBER and ~GROUP are applied, because they decide which keys there are.
    Where they do not compose, none is applied.
    """
    return list(_dotted_keys(_composed_for_names(name, tuple(overrides)), ""))


def default_of(name: str, key: str) -> Any:
    """The default of an option of conf/NAME.yaml. key: the option, with dots.

    None where there is no such option, where its default is null or must be given (???), and where the default is an
    interpolation.
    """
    config = _composed_for_names(name, ())
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    known = isinstance(node, DictConfig) and last in node and not OmegaConf.is_missing(node, last)
    return None if not known or OmegaConf.is_interpolation(node, last) else node[last]


@cache
def _composed_for_names(name: str, overrides: tuple[str, ...]) -> DictConfig:
    """The configuration conf/NAME.yaml, unresolved, of which only keys and defaults are used.

    Of the overrides, those of the forms GROUP=MEMBER and ~GROUP are applied; none where they do not compose. `pair` is
    demo where it must be chosen and no override that is applied chooses it.
    """
    register_resolvers()
    chosen = [o for o in overrides if o.removeprefix("~").split("=")[0] in groups()]
    if "pair" in _mandatory(name) and not any(o.removeprefix("~").startswith("pair") for o in chosen):
        chosen.append("pair=demo")
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        try:
            return hydra_compose(name, overrides=chosen)
        except (HydraException, OmegaConfBaseException):  # a choice itself is wrong, so compose without the choices
            return hydra_compose(name, overrides=["pair=demo"] if _mandatory(name) else [])


def _mandatory(name: str) -> list[str]:
    """The config groups of which conf/NAME.yaml has no default member."""
    return ["pair"] if name in ("config", "gate") else []


def _is_missing(config: DictConfig, key: str) -> bool:
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return OmegaConf.is_missing(node, last)


def _dotted_keys(config: DictConfig, prefix: str) -> Iterator[str]:
    """Every key of a configuration, after `prefix`; those of nested dicts follow, with dots.

    Lists and interpolations are not entered.
    """
    for key in map(str, config):
        yield f"{prefix}{key}"
        if not OmegaConf.is_missing(config, key) and not OmegaConf.is_interpolation(config, key):
            value = config[key]
            if isinstance(value, DictConfig):
                yield from _dotted_keys(value, f"{prefix}{key}.")
