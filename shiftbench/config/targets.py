"""The `_target_` paths of configurations: the path of a class today, and the path that digests of settings contain.

A configuration names the class that it describes by `_target_`. When a module moves, add a line to MOVED. A user's
configuration with the old path is then refused by a message that shows the new path. Digests of settings
(`settings` in scores.json) keep the old path, so that they do not change when a module moves.
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
    """Raise InputError where a configuration names a class by an old path. key: the dotted key of the `_target_`."""
    for old, new in MOVED.items():
        if target.startswith(old):
            raise InputError(
                f"{key}={target}: the class has moved; write {key}={new}{target.removeprefix(old)} in the configuration"
            )


def with_recorded_targets(plain: Any) -> Any:
    """A copy of dicts and lists in which every `_target_` is the path that digests of settings contain.

    That is the path before the move for a class that has moved, and the same path for any other. plain: dicts, lists
    and values.
    """
    if isinstance(plain, dict):
        return {k: _recorded(v) if k == "_target_" else with_recorded_targets(v) for k, v in plain.items()}
    return [with_recorded_targets(value) for value in plain] if isinstance(plain, list) else plain


def _recorded(target: Any) -> Any:
    for old, new in MOVED.items():
        if isinstance(target, str) and target.startswith(new):
            return f"{old}{target.removeprefix(new)}"
    return target
