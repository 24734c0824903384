"""The form of a word, from its spelling: prefix, suffix, stem, onset and rhyme."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SHORTEST_STEM = 3  # letters, at least one a vowel: so neither "thing" nor "being" has the suffix "ing"
ONSET = re.compile(r"[^aeiouy]*[aeiouy]")
RHYME = re.compile(r"[aeiouy]+[^aeiouy]+e?$|[aeiouy]+$")


class Form(NamedTuple):
    """Parts of a word that other words may share; None where the word does not have the part.

    Spelling is used in place of sound, so "though" and "rough" rhyme. onset: the letters up to the first vowel letter,
    of a word without prefix. rhyme: from the last group of vowel letters to the end, where a silent e at the end does
    not count as a vowel, of a word without suffix.
    """

    prefix: str | None
    suffix: str | None
    stem: str
    onset: str | None
    rhyme: str | None


def form(word: str, prefixes: Sequence[str], suffixes: Sequence[str]) -> Form:
    """The form of one word. prefixes, suffixes: longest first; the first one that leaves a possible stem is taken."""
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
    """The stem in one spelling where inflection changes it: make/mak(ing), run/runn(ing), happy/happi(ness)."""
    stem = rest.removesuffix("e")
    if len(stem) > SHORTEST_STEM and stem[-1] == stem[-2]:
        stem = stem[:-1]
    return stem[:-1] + "i" if stem.endswith("y") else stem


def form_codes(words: Sequence[str], prefixes: Sequence[str], suffixes: Sequence[str]) -> dict[str, Tensor]:
    """For each part of a Form, int32 [V]: words with the same part have the same number; -1 where a word has none."""
    prefixes, suffixes = (sorted(affixes, key=len, reverse=True) for affixes in (prefixes, suffixes))
    forms = [form(word, prefixes, suffixes) for word in words]
    codes = {}
    for part in Form._fields:
        seen: dict[str, int] = {}
        values = [getattr(f, part) for f in forms]
        codes[part] = torch.tensor([-1 if v is None else seen.setdefault(v, len(seen)) for v in values]).int()
    return codes
