"""Suggestions for a name that is not known: the nearest of those that are, and the list of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LISTED = 40  # names that one message lists


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
