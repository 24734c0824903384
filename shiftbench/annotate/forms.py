"""The form of a word, from its spelling: prefix, suffix, stem, onset and rhyme."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# The fewest letters that a stem can have; one of them must be a vowel letter. So neither "being" (two letters would be
# left) nor "string" (no vowel letter would be left) has the suffix "ing".
SHORTEST_STEM = 3
ONSET = re.compile(r"[^aeiouy]*[aeiouy]")
RHYME = re.compile(r"[aeiouy]+[^aeiouy]+e?$|[aeiouy]+$")


class Form(NamedTuple):
    """Parts of a word, by its spelling, that other words may share.

    prefix, suffix: the affixes that were found; None where the word has none. stem: the rest, in a spelling that most
    regular inflections share (_stem). onset: the letters up to the first vowel letter and with it; None for a word with
    a prefix. rhyme: the letters from the last group of vowel letters to the end; None for a word with a suffix. A
    single e at the end is no such group where a vowel letter stands before its consonants: "make" has the rhyme "ake".
    Vowel letters are a, e, i, o, u and y. Onset and rhyme are None for a word without vowel letter. Spelling is used in
    place of sound, so "though" and "rough" rhyme.
    """

    prefix: str | None
    suffix: str | None
    stem: str
    onset: str | None
    rhyme: str | None


def form(word: str, prefixes: Sequence[str], suffixes: Sequence[str]) -> Form:
    """The parts of one word, which may have capitals; the parts are in lower case.

    prefixes, suffixes: the affixes to look for, longest first. First the suffix is split off, then the prefix: in each
    list the first affix is taken that the word has and that leaves a possible stem (_is_stem).
    """
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
    """The stem in a spelling that regular inflections share: make, mak(ing) -> mak; runn(ing) -> run; happy -> happi.

    rest: a word in lower case without its affixes. A final e is removed, then one of two equal last letters of a stem
    of more than three letters. A final y becomes i.
    """
    stem = rest.removesuffix("e")
    if len(stem) > SHORTEST_STEM and stem[-1] == stem[-2]:
        stem = stem[:-1]
    return stem[:-1] + "i" if stem.endswith("y") else stem


def form_codes(words: Sequence[str], prefixes: Sequence[str], suffixes: Sequence[str]) -> dict[str, Tensor]:
    """For each field of Form, by name, a code for each of V words, int32 [V].

    Words that have the same part have the same code; a word without the part has -1. prefixes, suffixes: in any order;
    longer affixes are tried first.
    """
    prefixes, suffixes = (sorted(affixes, key=len, reverse=True) for affixes in (prefixes, suffixes))
    forms = [form(word, prefixes, suffixes) for word in words]
    codes = {}
    for part in Form._fields:
        seen: dict[str, int] = {}
        values = [getattr(f, part) for f in forms]
        codes[part] = torch.tensor([-1 if v is None else seen.setdefault(v, len(seen)) for v in values]).int()
    return codes
