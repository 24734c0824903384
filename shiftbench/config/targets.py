"""The `_target_` paths of configurations: where a class lives today, and the path by which `settings` knows it.

A configuration names the class that it describes by `_target_`. When a module moves, MOVED gets a line. A user's
configuration with the old path is then refused with the new one, and digests of settings stay as they were: they
depend on what a class is, not on where it lives.
"""

from __future__ import annotations

from typing import Any

from shiftbench.errors import InputError

# Beginning of a path before the move -> beginning of the path today.
MOVED = {
    "shiftbench.pairs.": "shiftbench.models.pairs.",
    "shiftbench.datasets.": "shiftbench.prompts.datasets.",
}


def check_target(key: str, target: str) -> None:
    """Raise InputError where a configuration names a class by a path that it had once. key: of the `_target_`."""
    for old, new in MOVED.items():
        if target.startswith(old):
            raise InputError(
                f"{key}={target} has moved; write {key}={new}{target.removeprefix(old)} in the configuration"
            )


def with_recorded_targets(plain: Any) -> Any:
    """Plain containers in which every `_target_` is the path under which digests of settings know the class."""
    if isinstance(plain, dict):
        return {k: _recorded(v) if k == "_target_" else with_recorded_targets(v) for k, v in plain.items()}
    return [with_recorded_targets(value) for value in plain] if isinstance(plain, list) else plain


def _recorded(target: Any) -> Any:
    for old, new in MOVED.items():
        if isinstance(target, str) and target.startswith(new):
            return f"{old}{target.removeprefix(new)}"
    return target
