"""Hydra's side of the command line: composing, and refusing what does not compose with what to say instead."""

from __future__ import annotations

import copy
import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import GrammarParseError, InterpolationResolutionError, OmegaConfBaseException

from shiftbench.demo import model_folder
from shiftbench.errors import InputError
from shiftbench.readers import check_text, file_bytes, path_of, sampled

CONFIG_MODULE = "shiftbench.conf"
# Where and how a job runs changes no result; the annotator stands with its finding.
ELSEWHERE = ("out", "tracking", "store", "device", "gpus", "dry_run", "annotate")
ASKING = ("concurrency", "retries", "timeout", "budget", "store")  # how an annotator asks changes no answer
RUNS = "shiftbench-runs"
NAME_PART = 80  # characters of a model's name in the name of a folder
LISTED = 40  # names that one message lists


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
    texts = list(_texts(plain, ""))
    for key, text in texts:
        check_text(text, f"{key}={text!a}")
    if not any("${" in text for _, text in texts):
        OmegaConf.resolve(config)
        return config
    made = literal(plain)  # OmegaConf would fill a resolved text in a second time
    OmegaConf.set_struct(made, True)
    return made


def literal(plain: Any) -> Any:
    """Plain containers as a configuration that says what they say: nothing in them is interpolated."""
    return OmegaConf.create(_escaped_all(plain))


def instantiable(node: Any) -> Any:
    """A part of a resolved configuration for Hydra's instantiate, which resolves once more than a look does."""
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not any("${" in text for _, text in _texts(plain, "")):
        return node
    return OmegaConf.create(_escaped_all(_escaped_all(plain)))


def _texts(plain: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in plain containers, under its dotted key."""
    if isinstance(plain, str):
        yield key, plain
    elif isinstance(plain, dict):
        for name, value in plain.items():
            yield from _texts(value, f"{key}.{name}" if key else str(name))
    elif isinstance(plain, list):
        for value in plain:
            yield from _texts(value, key)


def _escaped_all(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _escaped_all(value) for name, value in plain.items()}
    if isinstance(plain, list):
        return [_escaped_all(value) for value in plain]
    return escaped(plain) if isinstance(plain, str) else plain


def packaged(name: str) -> DictConfig:
    """The packaged values of one file of a config group, as 'finding/instruction_recognition': the YAML states each
    once, and whatever is not a job takes them from there."""
    group, _, member = name.partition("/")
    return compose("config", ["pair=demo", f"+{group}@one={member}"]).one


def out_folder(config: Any) -> Path:
    """The folder that the results of a sweep are under."""
    return path_of(str(config.out or RUNS), "out").absolute()


def pair_folder(config: Any) -> Path:
    """Where the results of one pair go that is no job of a sweep: `out`, or a folder of the pair's name."""
    root = out_folder(config)
    return root if config.out else root / pair_name(config.pair)


def pair_name(pair: Any) -> str:
    """What a folder of results is called after: the pair's name, or BASE-TUNED-DIGITS where nobody named it.

    pair=local takes the tuned model's path as its name, and `checkpoint-500` is the last folder of many paths. DIGITS
    are eight hexadecimal ones: of samples of both models' weights where they lie in folders here
    (readers.weights.sampled), else of the hub id and its revision, because the commit behind them is not known before
    the hub is asked, and a sweep composes all its jobs first.
    """
    if pair.name != pair.tuned:
        return file_name(Path(str(pair.name)).name)
    sides = [(str(pair[side]), pair.get(f"{side}_model") or {}) for side in ("base", "tuned")]
    called = [Path(str(options.get("adapter") or path).rstrip("/")).name[:NAME_PART] for path, options in sides]
    digits = hashlib.sha256(repr([_weights_of(path, options) for path, options in sides]).encode()).hexdigest()
    return file_name("-".join([*called, digits[:8]]))


def _weights_of(path: str, options: Any) -> list[str]:
    """What tells one model's weights from another's before they are loaded."""
    gguf, adapter = options.get("gguf_file"), options.get("adapter")
    files = [path if gguf is None else str(Path(path, str(gguf))), *([str(adapter)] if adapter else [])]
    found = []
    for file in files:
        try:
            found.append(sampled(path_of(file, "pair")))
        except (OSError, InputError):  # a hub id; or nothing at all, and then `check` says so
            found.append(f"{file} {options.get('revision')}")
    return found


def file_name(text: str) -> str:
    """The text as the name of a file that is inside its folder on any system."""
    return re.sub(r"[^\w.,=+-]+", "_", text).strip(".") or "pair"


def escaped(text: str) -> str:
    """A text as a value in which OmegaConf interpolates nothing."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """A suggestion for a name that is not known, and the names to choose from.

    prefix: what is typed before the name, 'pair=' for example.
    """
    names = sorted(name for name in known if not name.rpartition(".")[2].startswith("_"))
    if not names:
        return "there is none to choose from"
    close = closest(word, names)
    meant = f"did you mean {prefix}{close}? " if close and prefix else f"did you mean {close!r}? " if close else ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{meant}choose from {', '.join(names[:LISTED])}{more}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name that a word is most like, one of the same letters first; None where it is like none."""
    close = difflib.get_close_matches(word, sorted(known), n=5, cutoff=0.6)
    return next((name for name in close if sorted(name) == sorted(word)), close[0] if close else None)


def nearest_key(key: str, known: Iterable[str]) -> str:
    """A suggestion for a dotted key that is not known, and what there is where it begins to be wrong."""
    keys = sorted(known)
    parts = key.split(".")
    depth = next(n for n in range(len(parts), -1, -1) if n == 0 or ".".join(parts[:n]) in keys)
    beside = [name for name in keys if name.split(".")[:depth] == parts[:depth] and name.count(".") == depth]
    return nearest(key, beside) if depth else _of_all(key, keys, beside)


def _of_all(key: str, keys: list[str], top: list[str]) -> str:
    close = closest(key, keys)
    return f"did you mean {close!r}? choose from {', '.join(top)}" if close else f"choose from {', '.join(top)}"


def decisive(findings: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The findings' options, less those that change no result but only how it is come by."""
    plain: Any = OmegaConf.to_container(findings, resolve=True) if OmegaConf.is_config(findings) else findings
    plain = copy.deepcopy(plain)
    for finding in plain.values():
        explain = finding.get("explain", {})
        explain.pop("memory", None)
        if explain.get("method", "integrated_gradients") != "integrated_gradients":
            explain.pop("steps", None)  # of no other attribution
        if explain.get("method") == "grad_x_input":
            explain.pop("method")  # runs from before there was a choice have the same settings
        ratings = finding.get("ratings", {})
        if "path" in ratings:
            ratings["path"] = _content(str(ratings["path"]))
        for option in ASKING:
            for asks in (explain.get("annotator", {}), ratings):
                asks.pop(option, None)
    return dict(plain)


def _content(path: str) -> str:
    """sha256 (hex) of a file: what it says decides, and not where it lies."""
    try:
        return hashlib.sha256(file_bytes(path_of(path, "path"), path)).hexdigest()
    except (OSError, InputError):  # whoever reads the file for its content says what is wrong with it
        return path


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
        for name in ("pair", "dataset", "vocabulary", "vectors", "annotate", "control", "tracking", "suite")
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
