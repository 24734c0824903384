"""Suggestions for messages about a name that is not known: the nearest known name, and a list of the known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LISTED = 40  # the most names that one message lists


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a message about a name that is not known: the nearest known name, and the names to choose from.

    word: the name that was given. known: the known names; those whose last part begins with an underscore are not
    named. prefix: what is typed before the name, 'pair=' for example. No name is suggested where none is similar, and
    at most LISTED names are listed, in alphabetical order. Where there is no name to list, the text says so.
    """
    names = sorted(name for name in known if not name.rpartition(".")[2].startswith("_"))
    if not names:
        return "there is none to choose from"
    close = closest(word, names)
    meant = f"did you mean {prefix}{close}? " if close and prefix else f"did you mean {close!r}? " if close else ""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{meant}choose from {', '.join(names[:LISTED])}{more}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to a word; None where none is similar (by difflib, 0.6 or more).

    Among similar names, one of the same letters in another order is preferred, because swapping letters is a common
    typing error.
    """
    close = difflib.get_close_matches(word, sorted(known), n=5, cutoff=0.6)
    return next((name for name in close if sorted(name) == sorted(word)), close[0] if close else None)


def nearest_key(key: str, known: Iterable[str]) -> str:
    """The end of a message about a dotted key that is not known: the most similar key, and the keys to choose from.

    Nothing is suggested where no key is similar. The keys listed are those one level below the longest beginning of
    `key` that exists, and the suggestion is one of them; `nearest` says which are left out. Where not even the first
    part of `key` exists, all keys of the top level are listed, and the suggestion may be any known key.
    """
    keys = sorted(known)
    parts = key.split(".")
    depth = next(n for n in range(len(parts), -1, -1) if n == 0 or ".".join(parts[:n]) in keys)
    beside = [name for name in keys if name.split(".")[:depth] == parts[:depth] and name.count(".") == depth]
    if depth:
        return nearest(key, beside)
    close = closest(key, keys)
    return f"did you mean {close!r}? choose from {', '.join(beside)}" if close else f"choose from {', '.join(beside)}"
