"""Notes on spans that begin or end inside a word.

Such a span was probably counted in bytes or in UTF-16 units instead of characters: it may still lie inside its prompt,
but it then marks other text than the user meant.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence

from shiftbench.prompts import Prompt

SHOWN = 5  # most prompts that the note lists by their ids
AROUND = 12  # most characters that are shown on each side of a border
JOINER, NON_JOINER = "\u200d", "\u200c"
# Ranges (first, last) of the code points of scripts that are written without spaces, so that each border between two
# characters may be one between words. They are in rising order: South-East Asia, Tibet, Myanmar, Khmer, Tai; East Asian
# radicals to Yi; compatibility forms; extensions.
SPACELESS = (
    (0x0E00, 0x109F), (0x1780, 0x17FF), (0x1950, 0x1AAF), (0x2E80, 0x312F), (0x31A0, 0xA4CF), (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip


def span_notes(prompts: Sequence[Prompt]) -> list[str]:
    """A list with one note on the prompts that have a span beginning or ending inside a word or character.

    The note says how many they are, lists the ids of the first SHOWN, and describes one such span. The list is empty
    where no prompt has such a span.
    """
    found = {prompt.id: border for prompt in prompts if (border := _first_inside(prompt)) is not None}
    if not found:
        return []
    names = list(found)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [
        f"{len(names)} prompts have a span that begins or ends inside a word or inside a character "
        f"({names[0]}: {found[names[0]]}): {', '.join(names[:SHOWN])}{more}. Spans count characters (Unicode code "
        f"points), not bytes and not UTF-16 units. Spans in other units mark other text than you mean."
    ]


def inside(text: str, place: int) -> bool:
    """Whether a border before the code point text[place] is inside a word or inside a character of several code points.

    Such characters are a letter with combining marks, an emoji sequence, a flag of two code points, and CR LF.
    A word is a run of letters and digits. A border beside a character of a script that is written without spaces does
    not count as inside a word. The beginning and the end of the text are never inside one.
    """
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if (before, after) == ("\r", "\n") or before == JOINER or _extends(after):
        return True
    if _flag(before) and _flag(after):
        first = place - 1
        while first > 0 and _flag(text[first - 1]):
            first -= 1
        return (place - first) % 2 == 1
    return _of_word(before) and _of_word(after)


def _first_inside(prompt: Prompt) -> str | None:
    """A description of the first span that begins or ends inside a word or character; None: no span does.

    The instruction spans are looked at first, then the context spans, then the key spans.
    """
    kinds = {"instruction": prompt.instruction_spans, "context": prompt.context_spans, "key": prompt.key_spans}
    for kind, spans in kinds.items():
        for start, stop in spans:
            for place, verb in ((start, "begins"), (stop, "ends")):
                if inside(prompt.text, place):
                    shown = prompt.text[max(0, place - AROUND) : place], prompt.text[place : place + AROUND]
                    return f"{kind} span [{start}, {stop}) {verb} between {shown[0]!r} and {shown[1]!r}"
    return None


def _extends(character: str) -> bool:
    """Whether a code point continues the character that the code point before it belongs to.

    Combining marks, joiners, skin tones and tags do.
    """
    return (
        unicodedata.category(character) in ("Mn", "Mc", "Me")
        or character in (JOINER, NON_JOINER)
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= character <= "\U000e007f"  # tags, as in the flag of Wales
    )


def _flag(character: str) -> bool:
    """Whether a code point is a regional indicator; two of them are one flag."""
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _of_word(character: str) -> bool:
    """Whether a character is a letter or a digit of a script that puts spaces between words."""
    if not character.isalnum():
        return False
    block = bisect_right(SPACELESS, (ord(character), 0x110000)) - 1
    return block < 0 or ord(character) > SPACELESS[block][1]
