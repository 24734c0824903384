"""Text that came from models, files and users, made visible: nothing in it can break a page, a picture or a file."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from numbers import Integral, Real

NEWLINE, TAB, SPACE = "↵", "⇥", "·"
LONGEST_LABEL = 60  # characters
# Controls, formats (bidi overrides, zero-width characters), surrogates, private, unassigned, line and paragraph
# separators, spaces other than the plain one: all invisible or able to move their neighbours.
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")


def visible(text: str) -> str:
    """The text on one line, its hidden characters spelled out: ↵, ⇥, U+XXXX. Plain spaces stay."""
    shown = "".join(_visible_character(character) for character in text)
    return f"\u25cc{shown}" if text and unicodedata.combining(text[0]) else shown


def visible_lines(text: str) -> str:
    """As visible, but line breaks stay line breaks (for configuration and responses)."""
    return "\n".join(visible(line) for line in text.replace("\r\n", "\n").split("\n"))


def label(text: object) -> str:
    """As visible, and no longer than a picture has room for."""
    shown = visible(str(text))
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"


def visible_token(token: str) -> str:
    """As visible, with plain spaces shown too: a token is exactly what it spells. An empty token is ∅."""
    return visible(token).replace(" ", SPACE) or "∅"


def number(value: object, signed: bool = False) -> str:
    """A number for people: integers with thousands apart, others to three decimals or two significant digits."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return visible(str(value))
    if isinstance(value, Integral):
        return f"{int(value):+,}" if signed else f"{int(value):,}"
    x = float(value)
    if math.isnan(x):
        return "n/a"
    if math.isinf(x):
        return "∞" if x > 0 else "-∞"
    plain = x == 0 or 0.001 <= abs(x) < 10_000
    return format(x, ("+" if signed else "") + (".3f" if plain else ".1e"))


def p_value(p: float | None) -> str:
    """A p-value to two significant digits; empty where no test was made."""
    if p is None:
        return ""
    return "n/a" if math.isnan(p) else f"{p:.2g}"


def title(name: str) -> str:
    """A name in code, as a heading: 'concept_rotation' is 'Concept rotation', 'table2' is 'Table 2'."""
    words = re.sub(r"(?<=[a-z])(?=[0-9])", " ", name.replace("_", " ")).strip()
    return visible(words[:1].upper() + words[1:])


def file_name(name: str) -> str:
    """A file name that is this name where it is harmless; else what is harmless of it and a digest, so none collide."""
    kept = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:80]
    if kept == name and name:
        return name
    return f"{kept}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _visible_character(character: str) -> str:
    if character == " ":
        return character
    if character in "\n\t":
        return NEWLINE if character == "\n" else TAB
    if unicodedata.category(character) in _HIDDEN:
        return f"U+{ord(character):04X}"
    return character
