"""The form of a word, from its spelling."""

from __future__ import annotations

import pytest

from shiftbench.annotate.forms import Form, form, form_codes
from shiftbench.words import word_lists

PREFIXES = sorted(word_lists()["prefix"], key=len, reverse=True)
SUFFIXES = sorted(word_lists()["suffix"], key=len, reverse=True)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("running", Form(None, "ing", "run", "ru", None)),
        ("Making", Form(None, "ing", "mak", "ma", None)),
        ("happiness", Form(None, "ness", "happi", "ha", None)),
        ("happy", Form(None, None, "happi", "ha", "y")),
        ("thing", Form(None, None, "thing", "thi", "ing")),
        ("light", Form(None, None, "light", "li", "ight")),
        ("make", Form(None, None, "mak", "ma", "ake")),
        ("unfair", Form("un", None, "fair", None, "air")),
        ("pst", Form(None, None, "pst", None, None)),
        ("überall", Form(None, None, "überal", "übe", "all")),
    ],
)
def test_form(word: str, expected: Form) -> None:
    assert form(word, PREFIXES, SUFFIXES) == expected


def test_codes_are_equal_where_the_part_is() -> None:
    codes = form_codes(["run", "running", "sing", "fun"], PREFIXES, SUFFIXES)
    assert codes["stem"][0] == codes["stem"][1] != codes["stem"][3]
    assert codes["rhyme"][0] == codes["rhyme"][3] >= 0
    assert codes["rhyme"][1] == -1 and codes["prefix"].tolist() == [-1] * 4
