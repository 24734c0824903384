"""The words of a command line as Hydra's overrides: paths are taken as they are, and a refusal shows what to type.

Hydra reads `key=value` by a grammar in which (, =, [, a quote, #, a comma and letters beyond ASCII mean something else
or nothing at all. A value that names a path is put into Hydra's quotes here, so that nobody has to quote twice; what
is written in Hydra's own syntax (lists, sweeps, interpolations, quoted values) stays as it is.
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
# The last part of the keys whose value is a path, or a hub id in a path's place.
PATHS = {
    "out", "path", "base", "tuned", "adapter", "tokenizer", "gguf_file", "uri", "against", "results", "summary",
    "junit", "root", "publish", "baseline",
}  # fmt: skip
# Other keys whose value is a text, whatever it looks like: a revision may be 1e3 and a name 2024.
TEXTS = {"pair.name", "pair.family", "pair.size", "experiment", "revision", "weights", "method", "group"}
WRITTEN = {"out", "store.path", "summary", "junit", "publish", "baseline"}  # of which no job has several
# Of score's options, those that a chain and a comparison of mixtures do without.
OF_ONE_PAIR = ("pair", "control", "response.beside", "gpus")
LISTS = {("chain", "chain"), ("chain", "prompts"), ("mixture", "tuned")}  # (configuration, key) whose value is a list


def read(words: Sequence[str], name: str, flags: Sequence[str] = ()) -> list[str]:
    """The words as overrides that Hydra reads as they were meant.

    name: the command's configuration, conf/NAME.yaml. flags: the words with a leading dash that the command takes; they
    come back too. Raises InputError for a word that is no override, with what to type instead.
    """
    for word in words:
        check_text(word, f"argument {word!a}")
    sweeping = bool(set(MULTIRUN) & set(words) & set(flags))
    return [word if word in flags else _read(word, words, name, sweeping) for word in words]


def quoted(value: object) -> str:
    """A Python value as Hydra's grammar reads it back; a path as its text, taken literally."""
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
    """A text in Hydra's quotes, in which nothing is interpolated."""
    return QuotedString(literals.escaped(text), Quote.single).with_quotes()


def without_meaning(words: Sequence[str], keys: Iterable[str], why: str) -> None:
    """Refuse, by InputError, an option that would do nothing. keys: of such options, each for all that is under it."""
    for word in words:
        key = key_of(word)
        if any(key == dead or key.startswith(f"{dead}.") for dead in keys):
            raise InputError(f"{word} has no meaning {why}; leave it out")


def typed(key: str, text: str) -> str:
    """An override with a literal value as it is to be typed in a shell: the shell's quotes, then Hydra's."""
    return shlex.quote(f"{key}={QuotedString(literals.escaped(text), Quote.double).with_quotes()}")


def is_text(key: str) -> bool:
    """Whether the value of an option is a path, a hub id or a name, and so taken as it is written."""
    return key.rpartition(".")[2] in PATHS or key in TEXTS or key.rpartition(".")[2] in TEXTS


def key_of(word: str) -> str:
    """The key of an override, without the package that a config group is put at."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def _read(word: str, words: Sequence[str], name: str, sweeping: bool) -> str:
    if word.startswith("-"):
        raise InputError(_flag(word, words, name))
    key, equals, value = word.partition("=")
    if not equals:
        if not word.startswith("~"):
            raise InputError(_bare(word, name))
        return word
    plain = key_of(word)
    parsed = _parsed(word)
    if parsed is None:
        for meant in _meant(plain, value, sweeping):
            if _parsed(f"{key}={meant}") is not None:
                return f"{key}={meant}"
        raise InputError(_unreadable(word, key, value))
    if is_text(plain) and (name, plain) not in LISTS:
        word = f"{key}={_as_text(parsed, value, plain)}"
        parsed = _parsed(word) or parsed
    if (name, plain) in LISTS and value.startswith("[") and value.endswith("]"):
        made = f"{key}=[{','.join(map(_element, _elements(value[1:-1])))}]"
        word = made if made != word and _parsed(made) is not None else word
    if parsed.is_sweep_override() and not sweeping:
        raise InputError(_several(word, key, value, name))
    return word


def _as_text(parsed: Override, value: str, key: str) -> str:
    """The value of an option whose value is a text, where Hydra could read it, perhaps as something else."""
    found = parsed._value  # value() unpacks quotes, which say that the user wrote them
    if isinstance(found, QuotedString):
        return literal(found.text) if "${" in found.text and _exists(found.text) else value
    if _exists(value) and found is not None and found != value:
        return literal(value)
    if isinstance(found, str):
        cut = found != value and found == value.strip()  # a space at an end, which Hydra drops
        return literal(value) if cut or ("${" in value and _exists(value)) else value
    if not is_text(key) or found is None or (parsed.is_sweep_override() and key not in WRITTEN):
        return value
    return literal(value)  # a number, a truth value or a list: Hydra's reading of what is a name here


def _meant(key: str, value: str, sweeping: bool) -> Iterable[str]:
    """What a value that Hydra cannot read may mean, the likeliest first."""
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
    """The parts between commas; those that together name an existing path stay one."""
    parts = text.split(",")
    found: list[str] = []
    while parts:
        joined = next((n for n in range(len(parts), 1, -1) if _exists(",".join(parts[:n]).strip())), 1)
        whole = ",".join(parts[:joined])
        found.append(whole if _exists(whole) and not _exists(whole.strip()) else whole.strip())
        parts = parts[joined:]
    return found


def _element(text: str) -> str:
    parsed = _parsed(f"key={text}")
    if text.startswith(("'", '"', "{", "[")):
        return text
    if parsed is None or parsed.is_sweep_override() or (_exists(text) and (parsed._value != text or "${" in text)):
        return literal(text)
    return text


def _parsed(word: str) -> Override | None:
    """The override that Hydra reads, None where it cannot."""
    try:
        return OverridesParser.create().parse_override(word)
    except (HydraException, RecursionError):
        return None


def _exists(text: str) -> bool:
    try:
        return bool(text) and os.path.lexists(os.path.expanduser(text))
    except (OSError, ValueError):
        return False


def _unreadable(word: str, key: str, value: str) -> str:
    if not value.startswith(("'", '"')) and _parsed(f"{key}={literal(value)}") is not None:
        return f"cannot read {word!r}: the value has characters that mean something else; type {typed(key, value)}"
    try:
        OverridesParser.create().parse_override(word)
        reason = ""
    except (HydraException, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"cannot read {word!r}: {reason}; options are written key=value"


def _several(word: str, key: str, value: str, name: str) -> str:
    """What to say to several values where one is taken; a comma may be part of a path."""
    one = f"; where the comma belongs to the value, type {typed(key, value)}"
    said = f"{word} names several values: "
    said += "add -m to run one job for each" if name == "config" else "this command takes one"
    return said + (one if is_text(key_of(word)) else "")


def _flag(word: str, words: Sequence[str], name: str) -> str:
    """What to say to `--pair=demo`, `--pair demo`, `--dry-run` and to what is like nothing."""
    said = f"option {word!r} is not known; options are written key=value"
    if name == "config":
        said += " (-m: a sweep)"
    elif word in MULTIRUN:
        return f"option {word!r} is not known to this command, which does one thing; sweeps are shiftbench score -m"
    key, equals, value = word.lstrip("-").partition("=")
    key = key.replace("-", "_")
    if not equals:
        position = list(words).index(word) + 1
        value = words[position] if position < len(words) and "=" not in words[position] else "..."
        value = "true" if value == "..." and _is_switch(name, key) else value
    members = composition.groups().get(key, [])
    if members and value not in (*members, "..."):
        return f"{said}; {names.nearest(value, members, f'{key}=')}"
    known = composition.known_keys(name)
    if key in known:
        choices = f" choose from {', '.join(members)}" if members else ""
        return f"{said}: did you mean {shlex.quote(f'{key}={value}')}?{choices}"
    return f"{said}; {names.nearest_key(key, known)}"


def _bare(word: str, name: str) -> str:
    """What to say to `demo`, `dmeo`, `dry_run`, and to what is like nothing."""
    said = f"argument {word!r} is not key=value"
    groups = {group: members for group, members in composition.groups().items() if group in _of(name)}
    for group, members in groups.items():
        if word in members:
            return f"{said}: did you mean {group}={word}? choose from {', '.join(members)}"
    known = composition.known_keys(name)
    if word in known:
        return f"{said}: did you mean {word}={'true' if _is_switch(name, word) else '...'}?"
    for group, members in groups.items():
        if close := names.closest(word, members):
            return f"{said}: did you mean {group}={close}? choose from {', '.join(members)}"
    if name in ("config", "gate"):
        return f"{said}; which pair? {names.nearest('', composition.groups()['pair'], 'pair=')}"
    return f"{said}; {names.nearest_key(word, known)}"


def _of(name: str) -> list[str]:
    """The config groups that a command's configuration chooses from, the pair first."""
    known = composition.known_keys(name)
    return [group for group in ("pair", *composition.groups()) if group in known or group == "suite"]


def _is_switch(name: str, key: str) -> bool:
    value: Any = composition.default_of(name, key)
    return isinstance(value, bool)
