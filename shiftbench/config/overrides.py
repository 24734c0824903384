"""Reads the arguments of a command line as Hydra's overrides. A refusal says what to type instead, where that is known.

Hydra reads `key=value` by a grammar in which (, =, [, a quote, # and a comma have a meaning, and in which letters
beyond ASCII are not allowed. A value that names a path is put into Hydra's quotes here where Hydra would not read it as
it is written, so that users have to quote for the shell only. What is written in Hydra's own syntax (lists, sweeps,
interpolations, quoted values) stays as it is, except where Hydra cannot read it, where a text in it names an existing
path, and where the option takes a text and no list or no sweep.

The parameters of the functions here: `word` is one argument as the shell passes it, for example "pair=demo"; `words`
are all arguments; `name` is the command's configuration, conf/NAME.yaml; `key` is an option with dots.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from shiftbench.config import composition, literals, names
from shiftbench.errors import InputError
from shiftbench.readers import check_text

MULTIRUN = ("-m", "--multirun")
# The value of a key whose last part is one of these is a path, or a hub id or an address in place of a path.
PATHS = {
    "out", "path", "base", "tuned", "adapter", "tokenizer", "gguf_file", "uri", "against", "results", "summary",
    "junit", "root", "publish", "baseline",
}  # fmt: skip
# The value of a key that is one of these, or whose last part is, is a text, even where it looks like a number: a
# revision may be 1e3, and a name 2024.
TEXTS = {"pair.name", "pair.family", "pair.size", "experiment", "revision", "weights", "method", "group"}
WRITTEN = {
    "out",
    "store.path",
    "summary",
    "junit",
    "publish",
    "baseline",
}  # places to write to (perf check reads its baseline); a sweep cannot vary them, so a comma is part of the path
# Options of `shiftbench score` that describe a single pair: chains and comparisons of mixtures refuse them.
OF_ONE_PAIR = ("pair", "control", "response.beside", "gpus")
LISTS = {("chain", "chain"), ("chain", "prompts"), ("mixture", "tuned")}  # (configuration, key) whose value is a list


def read(words: Sequence[str], name: str, flags: Sequence[str] = ()) -> list[str]:
    """The arguments as overrides that Hydra reads as the user meant them, in the same order.

    flags: the arguments with a leading dash that the command accepts; they are returned unchanged. Several values for
    an option are allowed where -m or --multirun is both among the arguments and among the flags. Raises InputError for
    an argument that `check_text` refuses, and for one that is none of the flags and cannot be read as an override, or
    gives several values where they are not allowed; the message says what to type instead, where that is known.
    """
    for word in words:
        check_text(word, f"argument {word!a}")
    sweeping = bool(set(MULTIRUN) & set(words) & set(flags))
    return [word if word in flags else _read(word, words, name, sweeping) for word in words]


def quoted(value: object) -> str:
    """A Python value as the value of an override, in Hydra's grammar; dicts and lists with all their values.

    In an os.PathLike nothing is interpolated; in a str '${...}' is.
    """
    if isinstance(value, os.PathLike):
        return literal(str(os.fspath(value)))
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, dict):
        return "{" + ",".join(f"{quoted(str(key))}:{quoted(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Iterable):
        return "[" + ",".join(map(quoted, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def literal(text: str) -> str:
    """The text in Hydra's quotes, escaped so that Hydra reads exactly this text and interpolates nothing in it."""
    return QuotedString(literals.escaped(text), Quote.single).with_quotes()


def refuse_without_effect(words: Sequence[str], keys: Iterable[str], why: str) -> None:
    """Raise InputError where an argument sets an option that would have no effect.

    keys: the options without effect; a key stands for everything below it too. why: the end of "ARGUMENT has no effect
    ...", for the message.
    """
    for word in words:
        key = key_of(word)
        if any(key == ignored or key.startswith(f"{ignored}.") for ignored in keys):
            raise InputError(f"{word} has no effect {why}; leave it out")


def shell_text(key: str, text: str) -> str:
    """What a user types in a shell to give an option exactly this text: in Hydra's quotes inside the shell's quotes."""
    return shlex.quote(f"{key}={QuotedString(literals.escaped(text), Quote.double).with_quotes()}")


def is_text(key: str) -> bool:
    """Whether an option takes a text: a path, a hub id or a name, as PATHS and TEXTS say."""
    return key.rpartition(".")[2] in PATHS or key in TEXTS or key.rpartition(".")[2] in TEXTS


def key_of(word: str) -> str:
    """The key of an override without Hydra's marks: 'finding' of '+finding@findings.one=probe'."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def _read(word: str, words: Sequence[str], name: str, sweeping: bool) -> str:
    """One argument as an override that Hydra reads as it was meant.

    sweeping: whether several values are allowed. Raises InputError where the argument cannot be read.
    """
    if word.startswith("-"):
        raise InputError(_flag_message(word, words, name))
    key, equals, value = word.partition("=")
    if not equals:
        if not word.startswith("~"):
            raise InputError(_no_value_message(word, name))
        return word
    plain = key_of(word)
    parsed = _parsed(word)
    if parsed is None:
        for candidate in _candidates(plain, value, sweeping):
            if _parsed(f"{key}={candidate}") is not None:
                return f"{key}={candidate}"
        raise InputError(_unreadable_message(word, key, value))
    if is_text(plain) and (name, plain) not in LISTS:
        word = f"{key}={_text_value(parsed, value, plain)}"
        parsed = _parsed(word) or parsed
    if (name, plain) in LISTS and value.startswith("[") and value.endswith("]"):
        quoted_elements = f"{key}=[{','.join(map(_element, _elements(value[1:-1])))}]"
        word = quoted_elements if _parsed(quoted_elements) is not None else word
    if parsed.is_sweep_override() and not sweeping:
        raise InputError(_several_values_message(word, key, value, name))
    return word


def _text_value(parsed: Override, value: str, key: str) -> str:
    """The value of an option that takes a text, in Hydra's quotes where Hydra would read something else.

    parsed: the override as Hydra reads it, perhaps with a number or a list. value: as the user typed it. Several values
    of a sweep are quoted, as one text, only where together, commas included, they name an existing path, or where the
    option is one of WRITTEN. null stays as it is. A single text with '${' in it, and a single text that the user
    quoted, stay as they are, except where '${' is part of the name of an existing path. A list, a mapping, or several
    values of an option of WRITTEN are quoted as one text even with '${' in them: nothing in them is interpolated.
    """
    found = parsed._value  # value() would remove the quotes; they show that the user quoted the value
    if isinstance(found, QuotedString):
        return literal(found.text) if "${" in found.text and _exists(found.text) else value
    if _exists(value) and found is not None and found != value:
        return literal(value)
    if isinstance(found, str):
        stripped = found != value and found == value.strip()  # Hydra drops spaces at the ends
        return literal(value) if stripped or ("${" in value and _exists(value)) else value
    if not is_text(key) or found is None or (parsed.is_sweep_override() and key not in WRITTEN):
        return value
    return literal(value)  # Hydra read a number, a truth value or a list; here it is a name


def _candidates(key: str, value: str, sweeping: bool) -> Iterable[str]:
    """Quoted forms of a value that Hydra cannot read, the likeliest first. The first that Hydra can read is taken.

    key: the option. sweeping: whether several values, separated by commas, are allowed.
    """
    if _exists(value):
        yield literal(value)
    if value.startswith("[") and value.endswith("]"):
        yield "[" + ",".join(map(_element, _elements(value[1:-1]))) + "]"
    elements = _elements(value)
    if sweeping and len(elements) > 1 and (is_text(key) or all(map(_exists, elements))):
        yield ",".join(map(_element, elements))
    if is_text(key) and not value.startswith(("'", '"')):
        yield literal(value)


def _elements(text: str) -> list[str]:
    """The parts of a text between commas, without spaces at their ends.

    Parts that together, commas included, name an existing path are one element. Spaces stay where only the text with
    them names an existing path.
    """
    parts = text.split(",")
    found: list[str] = []
    while parts:
        joined = next((n for n in range(len(parts), 1, -1) if _exists(",".join(parts[:n]).strip())), 1)
        whole = ",".join(parts[:joined])
        found.append(whole if _exists(whole) and not _exists(whole.strip()) else whole.strip())
        parts = parts[joined:]
    return found


def _element(text: str) -> str:
    """One element of a list or of a sweep, in Hydra's quotes where it needs them.

    It needs them where Hydra cannot read it as one value, or where it names an existing path and Hydra would read
    something else. What begins with a quote, { or [ is Hydra's own syntax and stays as it is.
    """
    parsed = _parsed(f"key={text}")
    if text.startswith(("'", '"', "{", "[")):
        return text
    if parsed is None or parsed.is_sweep_override() or (_exists(text) and (parsed._value != text or "${" in text)):
        return literal(text)
    return text


def _parsed(word: str) -> Override | None:
    """The override as Hydra reads it; None where Hydra cannot read it."""
    try:
        return OverridesParser.create().parse_override(word)
    except (HydraException, RecursionError):
        return None


def _exists(text: str) -> bool:
    """Whether something lies at this path, a dangling link included; `~` is expanded. False for what can be no path."""
    try:
        return bool(text) and os.path.lexists(os.path.expanduser(text))
    except (OSError, ValueError):
        return False


def _unreadable_message(word: str, key: str, value: str) -> str:
    """The message for an argument that Hydra cannot read: what to type, or Hydra's reason.

    What to type is the value in quotes, where Hydra can read that. key, value: what is before and after the first '='.
    """
    if not value.startswith(("'", '"')) and _parsed(f"{key}={literal(value)}") is not None:
        return (
            f"cannot read {word!r}: the value has characters that have a meaning in Hydra's grammar; "
            f"type {shell_text(key, value)}"
        )
    try:
        OverridesParser.create().parse_override(word)
        reason = ""
    except (HydraException, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"cannot read {word!r}: {reason}; options are written key=value"


def _several_values_message(word: str, key: str, value: str, name: str) -> str:
    """The message for an argument with several values where one is accepted.

    key, value: what is before and after the first '='. Where the value is a path or a name, the comma may be part of
    it, and the message says how to type it then.
    """
    one = f"; where the comma belongs to the value, type {shell_text(key, value)}"
    message = f"{word} gives several values: "
    message += "add -m to run one job for each" if name == "config" else "this command takes one"
    return message + (one if is_text(key_of(word)) else "")


def _flag_message(word: str, words: Sequence[str], name: str) -> str:
    """The message for an argument with a dash in front: `--pair=demo`, `--pair demo`, `--dry-run`, or anything else."""
    message = f"option {word!r} is not known; options are written key=value"
    if name == "config":
        message += " (-m starts a sweep)"
    elif word in MULTIRUN:
        return f"option {word!r} is not known to this command; only shiftbench score -m runs several jobs"
    key, equals, value = word.lstrip("-").partition("=")
    key = key.replace("-", "_")
    if not equals:
        position = list(words).index(word) + 1
        value = words[position] if position < len(words) and "=" not in words[position] else "..."
        value = "true" if value == "..." and _is_switch(name, key) else value
    members = composition.groups().get(key, [])
    if members and value not in (*members, "..."):
        return f"{message}; {names.nearest(value, members, f'{key}=')}"
    known = composition.known_keys(name)
    if key in known:
        choices = f" choose from {', '.join(members)}" if members else ""
        return f"{message}: did you mean {shlex.quote(f'{key}={value}')}?{choices}"
    return f"{message}; {names.nearest_key(key, known)}"


def _no_value_message(word: str, name: str) -> str:
    """The message for an argument without '=': `demo`, `dmeo`, `dry_run`, or anything else."""
    message = f"argument {word!r} is not of the form key=value"
    groups = {group: members for group, members in composition.groups().items() if group in _groups_of(name)}
    for group, members in groups.items():
        if word in members:
            return f"{message}: did you mean {group}={word}? choose from {', '.join(members)}"
    known = composition.known_keys(name)
    if word in known:
        return f"{message}: did you mean {word}={'true' if _is_switch(name, word) else '...'}?"
    for group, members in groups.items():
        if close := names.closest(word, members):
            return f"{message}: did you mean {group}={close}? choose from {', '.join(members)}"
    if name in ("config", "gate"):
        return f"{message}; choose a pair with pair=NAME: {names.nearest('', composition.groups()['pair'], 'pair=')}"
    return f"{message}; {names.nearest_key(word, known)}"


def _groups_of(name: str) -> list[str]:
    """The config groups that a command's configuration chooses from, `pair` first.

    `suite` is always among them, because a suite leaves no key of its own in the configuration.
    """
    known = composition.known_keys(name)
    return [group for group in ("pair", *composition.groups()) if group in known or group == "suite"]


def _is_switch(name: str, key: str) -> bool:
    """Whether an option is a switch: its default is true or false, not a number, a text or null."""
    value: Any = composition.default_of(name, key)
    return isinstance(value, bool)
