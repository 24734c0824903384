"""Texts that OmegaConf would interpolate, kept as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf


def literal(plain: Any) -> Any:
    """Plain containers as a configuration that says what they say: nothing in them is interpolated."""
    return OmegaConf.create(_escaped_all(plain))


def instantiable(node: Any) -> Any:
    """A part of a resolved configuration for Hydra's instantiate, which resolves once more than a look does."""
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not any("${" in text for _, text in texts_in(plain, "")):
        return node
    return OmegaConf.create(_escaped_all(_escaped_all(plain)))


def texts_in(plain: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in plain containers, under its dotted key."""
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
    """A text as a value in which OmegaConf interpolates nothing."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)
