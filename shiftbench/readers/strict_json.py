"""JSON of a user or a server. Of an object that gives a key twice, no value is taken: it is refused or skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from shiftbench.errors import InputError


def json_value(text: str | bytes, what: str = "") -> Any:
    """The value of a JSON text.

    what: what the text is; the message begins with it; "" leaves it out. Raises InputError where it is not JSON, nests
    too deeply, holds a number of more digits than Python converts, or gives a key of an object twice. `json.loads`
    would silently keep the last value of such a key. NaN and Infinity are accepted, as by `json.loads`.
    """
    where = f"{what} " if what else ""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except InputError as error:
        raise InputError(f"{where}{error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}{'is ' if what else ''}not JSON: {' '.join(str(error).split())}") from error


def json_objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, in their order. Sentences or fences may stand before, between and after them.

    An object inside another object is not given by itself. Where no object can be read from a "{" on, or one has a key
    twice, it is skipped. The search goes on at the next "{", so the objects inside a skipped object are given.
    """
    decoder, place = json.JSONDecoder(object_pairs_hook=_without_repeats), text.find("{")
    while place >= 0:
        try:
            found, end = decoder.raw_decode(text, place)
            yield found
        except (ValueError, RecursionError):
            end = place + 1
        place = text.find("{", end)


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object with these (key, value) pairs, as a dict; InputError where two pairs have the same key."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise InputError(f"gives the key {name!r} twice; keep one of the two")
        result[name] = value
    return result
