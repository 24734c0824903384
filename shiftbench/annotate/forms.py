"""The form of a word, read off its spelling: affixes, stem, onset and rhyme."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SHORTEST_STEM = 3  # letters, one of them a vowel: "thing" has no suffix, "being" none either
ONSET = re.compile(r"[^aeiouy]*[aeiouy]")
RHYME = re.compile(r"[aeiouy]+[^aeiouy]+e?$|[aeiouy]+$")


class Form(NamedTuple):
    """Parts of a word that other words may share; None where it has none.

    Spelling stands in for sound: "though" and "rough" rhyme here. onset: up to the first vowel letter, of a word
    without prefix. rhyme: from the last vowel letters on, a silent e included, of a word without suffix.
    """

    prefix: str | None
    suffix: str | None
    stem: str
    onset: str | None
    rhyme: str | None


def form(word: str, prefixes: Sequence[str], suffixes: Sequence[str]) -> Form:
    """The form of one word. prefixes, suffixes: longest first; the first that leaves a stem counts."""
    word = word.lower()
    suffix = next((s for s in suffixes if word.endswith(s) and _is_stem(word[: -len(s)])), None)
    rest = word[: -len(suffix)] if suffix else word
    prefix = next((p for p in prefixes if rest.startswith(p) and _is_stem(rest[len(p) :])), None)
    onset, rhyme = ONSET.match(word), RHYME.search(word)
    return Form(
        prefix=prefix,
        suffix=suffix,
        stem=_stem(rest.removeprefix(prefix or "")),
        onset=onset.group() if onset and not prefix else None,
        rhyme=rhyme.group() if rhyme and not suffix else None,
    )


def _is_stem(rest: str) -> bool:
    return len(rest) >= SHORTEST_STEM and any(letter in "aeiouy" for letter in rest)


def _stem(rest: str) -> str:
    """One spelling for what inflection respells: make/mak(ing), run/runn(ing), happy/happi(ness)."""
    stem = rest.removesuffix("e")
    if len(stem) > SHORTEST_STEM and stem[-1] == stem[-2]:
        stem = stem[:-1]
    return stem[:-1] + "i" if stem.endswith("y") else stem


def form_codes(words: Sequence[str], prefixes: Sequence[str], suffixes: Sequence[str]) -> dict[str, Tensor]:
    """Per part of a Form, a number per word, int32 [V]: equal where words share the part, -1 where a word has none."""
    prefixes, suffixes = (sorted(affixes, key=len, reverse=True) for affixes in (prefixes, suffixes))
    forms = [form(word, prefixes, suffixes) for word in words]
    codes = {}
    for part in Form._fields:
        seen: dict[str, int] = {}
        values = [getattr(f, part) for f in forms]
        codes[part] = torch.tensor([-1 if v is None else seen.setdefault(v, len(seen)) for v in values]).int()
    return codes
