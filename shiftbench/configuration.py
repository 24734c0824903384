"""Hydra's side of the command line: composing, refusing what does not compose, launching, naming jobs and folders."""

from __future__ import annotations

import difflib
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from shiftbench.demo import model_folder
from shiftbench.errors import InputError

CONFIG_MODULE = "shiftbench.conf"
RUNS = "shiftbench-runs"
FLAGS = {"-m", "--multirun"}


def register_resolvers() -> None:
    """What `conf/` may call: the folder of a bundled model."""
    OmegaConf.register_new_resolver("demo_model", model_folder, replace=True)


def compose(name: str, overrides: Sequence[str]) -> DictConfig:
    """The resolved configuration `name` under overrides; InputError where it does not compose or lacks a value."""
    register_resolvers()
    try:
        with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            config = hydra_compose(name, overrides=list(overrides), return_hydra_config=False)
        missing = sorted(key for key in _dotted(config, "") if _is_missing(config, key))
        if missing:
            raise InputError(f"{missing[0]} is needed: give {missing[0]}=...")
        OmegaConf.resolve(config)
        return config
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_explained(error, name, overrides)) from None


def packaged(name: str) -> DictConfig:
    """The packaged values of one file of a config group, as 'finding/instruction_recognition': the YAML states each
    once, and whatever is not a job takes them from there."""
    group, _, member = name.partition("/")
    return compose("config", ["pair=demo", f"+{group}@one={member}"]).one


def check(arguments: Sequence[str]) -> tuple[str, ...]:
    """Compose every value that the arguments name, each once, before anything runs. Returns the keys that vary."""
    texts = [argument for argument in arguments if argument not in FLAGS]
    unknown = [text for text in texts if text.startswith("-")]
    if unknown:
        raise InputError(f"option {unknown[0]!r} is not known; options are written key=value (-m: a sweep)")
    try:
        overrides = OverridesParser.create().parse_overrides(texts)
    except HydraException as error:
        raise InputError(f"cannot read the arguments: {str(error).splitlines()[0]}") from None
    sweeping = bool(FLAGS & set(arguments))
    varied = [override for override in overrides if override.is_sweep_override()]
    if varied and not sweeping:
        raise InputError(f"{varied[0].input_line} names several values: add -m to run one job for each")
    for combination in _each_value_once(overrides):
        compose("config", combination)
    return tuple(override.get_key_element() for override in varied)


def _each_value_once(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """Overrides of single jobs in which every swept value appears, the other sweeps at their first value."""

    def texts(override: Override) -> list[str]:
        if not override.is_sweep_override():
            return [override.input_line or ""]
        value = override.value()
        if isinstance(value, Glob):
            members = value.filter(groups().get(override.key_or_group, []))
            return [f"{override.key_or_group}={member}" for member in members]
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]

    choices = [texts(override) for override in overrides]
    first = [values[0] for values in choices]
    yield first
    for place, values in enumerate(choices):
        for value in values[1:]:
            yield [*first[:place], value, *first[place + 1 :]]


def launch(arguments: Sequence[str], job: Callable[[DictConfig], None]) -> None:
    """Run the job once, or once a combination under -m, by Hydra's launcher."""
    # Hydra writes what it was told, passwords included, into the folder of a sweep: that one is thrown away.
    with tempfile.TemporaryDirectory(prefix="shiftbench-sweep-") as folder:
        flags = [word for word in arguments if word.startswith("-")]  # Hydra reads no override behind a second flag
        overrides = [word for word in arguments if not word.startswith("-")]
        sys.argv = ["shiftbench score", *flags, *overrides, f"hydra.sweep.dir='{folder}'"]
        hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="config")(job)()


def out_folder(config: Any, varied: Sequence[str]) -> Path:
    """Where a job's results go: `out` itself for a single job, OUT/<pair> in a sweep."""
    root = Path(config.out or RUNS).expanduser().absolute()
    sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
    return root if config.out and not sweeping else root / job_name(config, varied)


def pair_folder(config: Any) -> Path:
    """Where the results of one pair go that is no job of a sweep: `out`, or a folder of the pair's name."""
    root = Path(config.out or RUNS).expanduser().absolute()
    return root if config.out else root / _file_name(Path(config.pair.name).name)


def chosen(group: str) -> str:
    """The member of a config group that the running job was composed with."""
    return str(HydraConfig.get().runtime.choices[group])


def job_name(config: Any, varied: Sequence[str]) -> str:
    """The pair's name, followed by whatever else varies in the sweep; safe as a file name."""
    chosen = HydraConfig.get().runtime.choices  # of a config group, the member's name
    others = [(key, chosen.get(key) or OmegaConf.select(config, key)) for key in varied if key != "pair"]
    parts = [Path(config.pair.name).name, *(f"{key}={value}" for key, value in others)]
    return _file_name(",".join(parts))


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.,=+-]+", "_", text).strip(".") or "pair"


def nearest(word: str, known: Iterable[str]) -> str:
    """A suggestion for a name that is not known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names)}"


def groups() -> dict[str, list[str]]:
    """The config groups a user chooses from, and what each holds."""
    root = resources.files(CONFIG_MODULE)
    found = {}
    for folder in sorted(root.iterdir(), key=lambda item: item.name):
        if folder.is_dir() and not folder.name.startswith("_"):
            found[folder.name] = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
    return {name: members for name, members in found.items() if members}


def help_text() -> str:
    """What `shiftbench score` can be told: the groups, and the options with their defaults and reasons."""
    text = (resources.files(CONFIG_MODULE) / "config.yaml").read_text(encoding="utf-8")
    options = text[text.index("out: null") : text.index("bootstrap:")].rstrip()
    choices = groups()
    lines = [
        f"  {name}={'|'.join(choices[name])}"
        for name in ("pair", "dataset", "vocabulary", "vectors", "tracking", "suite")
    ]
    return "\n".join(
        [
            "shiftbench score pair=NAME [option=value ...]",
            "",
            "Choose (pair=local takes pair.base=PATH pair.tuned=PATH, dataset=jsonl takes dataset.path=FILE):",
            *lines,
            "",
            "Options, with their defaults (nested ones as response.max_new_tokens=64):",
            *("  " + line for line in options.splitlines()),
            "",
            "Any value of a finding can be set too: findings.instruction_recognition.cutoff=5",
        ]
    )


def options_help(usage: str, name: str) -> str:
    """What a command can be told: its usage line and the options in its own configuration, conf/NAME.yaml."""
    text = (resources.files(CONFIG_MODULE) / f"{name}.yaml").read_text(encoding="utf-8")
    return f"{usage}\n\nOptions, with their defaults:\n{text}".rstrip()


def _explained(error: Exception, name: str, overrides: Sequence[str]) -> str:
    """Hydra's reason in one line, with the nearest known name where one was mistyped."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, wanted = str(error.missing_cfg_file).rpartition("/")
        return f"there is no {group}={wanted}; {nearest(wanted, groups().get(group, []))}"
    if "You must specify" in text:
        wanted = re.findall(r"You must specify '(\w+)'", text)[0]
        return f"{wanted} is needed: give {wanted}=NAME; {nearest('', groups().get(wanted, []))}"
    key = next((re.split(r"[=]", o.lstrip("+~"))[0] for o in overrides if _names_key(text, o)), None)
    if key and isinstance(error, ConfigCompositionException):
        return f"there is no option {key!r}; {nearest(key, _known_keys(name, overrides))}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _names_key(text: str, override: str) -> bool:
    return override.lstrip("+~").split("=")[0] in text


def _known_keys(name: str, overrides: Sequence[str]) -> list[str]:
    """Dotted keys of the configuration under those overrides that choose a group's member."""
    chosen = [o for o in overrides if o.split("=")[0] in groups()]
    with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        config = hydra_compose(name, overrides=chosen)
    return list(_dotted(config, ""))


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
