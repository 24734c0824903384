"""Options that must be numbers. A command line may set any option to true, to a text or to null."""

from __future__ import annotations

import math

from shiftbench.errors import InputError


def check_whole(
    option: str, value: object, least: int | None, most: int | None = None, null: str | None = None
) -> None:
    """Raise InputError where the value of an option is not a whole number from `least` to `most`, both included.

    option: the option's full name, with which the message begins. true and false are no numbers, although Python's
    bool is an int. least, most: None where there is no such limit. null: what null means for this option, such as "all
    prompts", for the message; None where null is refused.
    """
    if value is None and null is not None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and (least is None or value >= least) and (most is None or value <= most):  # type: ignore[operator]
        return
    limits = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
    raise InputError(
        f"{option}={as_typed(value)} must be a whole number{limits}" + (f", or null for {null}" if null else "")
    )


def check_number(option: str, value: object, null: str | None = None) -> None:
    """Raise InputError where the value of an option is not a finite number. option, null: as for `check_whole`."""
    if value is None and null is not None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{option}={as_typed(value)} must be a number" + (f", or null for {null}" if null else ""))


def as_typed(value: object) -> str:
    """A value as a command line spells it: null, true and false; any other value as Python does."""
    return str(value).lower() if isinstance(value, bool) else "null" if value is None else repr(value)
