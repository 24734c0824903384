"""Texts that contain '${' and are to stay as they are: OmegaConf would interpolate them.

A path or a prompt may contain '${'. Such a text is escaped, once for each time that OmegaConf resolves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf


def literal(plain: Any) -> Any:
    """An OmegaConf configuration with the content of `plain`, whose texts OmegaConf gives back uninterpolated.

    plain: a dict or a list, of dicts, lists and values.
    """
    return OmegaConf.create(_escaped_all(plain))


def instantiable(node: Any) -> Any:
    """A part of a resolved configuration, in the form in which Hydra's instantiate gets its texts as they are.

    instantiate resolves a configuration once and then reads its values, which resolves them again. So texts with '${'
    are escaped twice. A part without such a text is returned unchanged.
    """
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not any("${" in text for _, text in texts_in(plain, "")):
        return node
    return OmegaConf.create(_escaped_all(_escaped_all(plain)))


def texts_in(plain: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every (dotted key, text) in nested dicts and lists. The items of a list have the list's key, without an index.

    plain: dicts, lists and values; values that are no texts are skipped. key: the dotted key of `plain` itself, "" at
    the top.
    """
    if isinstance(plain, str):
        yield key, plain
    elif isinstance(plain, dict):
        for name, value in plain.items():
            yield from texts_in(value, f"{key}.{name}" if key else str(name))
    elif isinstance(plain, list):
        for value in plain:
            yield from texts_in(value, key)


def _escaped_all(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _escaped_all(value) for name, value in plain.items()}
    if isinstance(plain, list):
        return [_escaped_all(value) for value in plain]
    return escaped(plain) if isinstance(plain, str) else plain


def escaped(text: str) -> str:
    """The text as OmegaConf must get it to give the text back: '${' and the backslashes before it are escaped."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)
