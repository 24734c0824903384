"""Text from models, files and users, changed so that it cannot damage a page, a chart or a file name.

Characters of the Unicode categories in _HIDDEN, except plain spaces, line feeds and tabs, are replaced by their codes,
such as U+200B. These characters include zero-width spaces, and bidirectional overrides, which change the order of the
text around them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

NEWLINE, TAB, SPACE = "↵", "⇥", "·"
LONGEST_LABEL = 60  # characters
_REFERENCES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "$": "&#36;"}
# Unicode categories: control, format, surrogate, private use, unassigned, line separator, paragraph separator, space.
# The plain space is in the last category too; `_visible_character` keeps it.
_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")


def visible(text: str) -> str:
    """The text on one line, with its hidden characters spelled out. Plain spaces stay.

    A line feed becomes ↵, a tab becomes ⇥, and every other hidden character becomes its code U+XXXX. A combining
    character at the start gets a dotted circle in front; without the circle, it would combine with the character that
    stands before the text.
    """
    shown = "".join(_visible_character(character) for character in text)
    return f"\u25cc{shown}" if text and unicodedata.combining(text[0]) else shown


def visible_lines(text: str) -> str:
    """The text with each line as `visible` shows it. Line breaks (LF, CR LF) stay, as LF.

    It is for texts that are shown on several lines: configurations and responses.
    """
    return "\n".join(visible(line) for line in text.replace("\r\n", "\n").split("\n"))


def label(text: object) -> str:
    """The text as `visible` shows it, for a chart; a longer one is cut to LONGEST_LABEL characters, '…' included."""
    shown = visible(str(text))
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"


def visible_token(token: str) -> str:
    """The token as `visible` shows it, with plain spaces as '·' too. An empty token is '∅'."""
    return visible(token).replace(" ", SPACE) or "∅"


def in_markdown(text: object) -> str:
    """The text as `visible` shows it, with the characters escaped that Markdown, HTML or GitHub would interpret.

    It may stand inside a line, in the cell of a table or at the start of a line, where it begins no list, heading,
    quotation or block of code. Signs that not every Markdown program lets a backslash escape become character
    references, such as &lt; for <.
    """
    shown = re.sub(r"[&<>@$]", lambda found: _REFERENCES[found.group()], visible(str(text)))
    # '(' matters behind ']' only, where it begins the address of a link.
    escaped = re.sub(r"[\\`*_{}\[\]|~!:]|(?<=\])\(|(?<!&)#", r"\\\g<0>", shown)
    escaped = re.sub(r"(?i)\b(www)\.", r"\1\\.", escaped)  # GitHub makes links of names that begin with www.
    escaped = re.sub(r"^(\d+(?=[.)](?: |$))|(?=[-+=]))", r"\1\\", escaped)
    return re.sub(r"^ ", "&#32;", escaped)  # no indentation; nothing behind it is at the start of a line then


def title(name: str) -> str:
    """A heading for a name of the code: 'concept_rotation' gives 'Concept rotation', 'table2' gives 'Table 2'."""
    words = re.sub(r"(?<=[a-z])(?=[0-9])", " ", name.replace("_", " ")).strip()
    return visible(words[:1].upper() + words[1:])


def file_name(name: str) -> str:
    """A safe file name, without an ending. Different names almost surely give different file names.

    A name of 1 to 80 ASCII letters, digits, '_' and '-' stays. In any other name each run of other characters becomes
    '_', the result is cut to 80 characters, and '-' and eight hexadecimal digits of the name's SHA-256 are added.
    """
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
