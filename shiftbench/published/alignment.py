"""Which SentencePiece pieces of a published prompt spell its spans of characters, and which spans no piece spells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shiftbench.prompts import Span

# Why a span has no piece (Unaligned.reason).
UNSPELLED = "no pieces spell it"  # the pieces spell another text than the prompt where the span is
ONLY_MARKS = "only dropped marks spell it"  # all pieces that spell the span are in MARKS

BOUNDARY = "\u2581"  # SentencePiece's mark of a space
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
MARKS = (BOUNDARY, "<0x0A>", BOUNDARY + '"')  # the paper drops these pieces at both ends of a span


@dataclass(frozen=True)
class Unaligned:
    """A span of a prompt that has no piece.

    span: [start, stop) in characters of the prompt. text: what the span holds. reason: UNSPELLED or ONLY_MARKS.
    """

    span: Span
    text: str
    reason: str


def piece_bytes(piece: str) -> bytes:
    """The UTF-8 bytes that a SentencePiece piece spells: '\u2581' is a space, and '<0x0A>' is the one byte 0x0A."""
    byte = BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else _utf8(piece.replace(BOUNDARY, " "))


def piece_texts(pieces: Sequence[str]) -> list[str]:
    """The text that each piece spells. A piece that is one byte of a longer character gives U+FFFD."""
    return [piece_bytes(piece).decode("utf-8", "replace") for piece in pieces]


def align(pieces: Sequence[str], prompt: str, spans: Sequence[Span]) -> tuple[Tensor, list[Unaligned]]:
    """(mask_P, unaligned): which pieces spell a part of some span (bool), and the spans that gave mask_P no piece.

    spans: [start, stop) in characters of the prompt. At both ends of a span's pieces, those in MARKS (a space, a line
    feed, a quotation mark after a space) are dropped; where none is left, the span is ONLY_MARKS.
    The pieces should spell " " + prompt. Where they spell something else, the bytes at the beginning and at the end in
    which both agree are still matched. A span that lies wholly in neither of the two has no piece and is UNSPELLED.
    """
    spelled = [piece_bytes(piece) for piece in pieces]
    end_P = np.cumsum([len(part) for part in spelled], dtype=np.int64)
    begin_P = end_P - np.array([len(part) for part in spelled], dtype=np.int64)
    text = _utf8(" " + prompt)
    byte_of = np.cumsum([0, *(len(_utf8(character)) for character in " " + prompt)])
    joined = b"".join(spelled)
    head, tail = _common_ends(joined, text)
    mask_P = torch.zeros(len(pieces), dtype=torch.bool)
    unaligned = []
    for start, stop in spans:
        first, last = int(byte_of[start + 1]), int(byte_of[stop + 1])
        matched = last <= head or first >= len(text) - tail
        # A span in the equal bytes at the end begins in `joined` len(joined) - len(text) bytes later than in `text`.
        shift = 0 if last <= head else len(joined) - len(text)
        spells_P = (end_P > first + shift) & (begin_P < last + shift)
        inside = _without_marks(np.flatnonzero(spells_P).tolist(), pieces) if matched else []
        mask_P[inside] = True
        if not inside:
            unaligned.append(Unaligned((start, stop), prompt[start:stop], ONLY_MARKS if matched else UNSPELLED))
    return mask_P, unaligned


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _common_ends(spelled: bytes, text: bytes) -> tuple[int, int]:
    """(number of equal bytes at the beginning of both, number of equal bytes at the end of both).

    The bytes that are counted at the beginning are not counted again at the end.
    """
    if spelled == text:
        return len(text), 0
    shorter = min(len(spelled), len(text))
    head = next((i for i in range(shorter) if spelled[i] != text[i]), shorter)
    most = shorter - head
    return head, next((i for i in range(most) if spelled[-1 - i] != text[-1 - i]), most)


def _without_marks(inside: list[int], pieces: Sequence[str]) -> list[int]:
    """The ascending indices `inside` of pieces, without the first and the last ones whose pieces are in MARKS."""
    while inside and pieces[inside[0]] in MARKS:
        inside = inside[1:]
    while inside and pieces[inside[-1]] in MARKS:
        inside = inside[:-1]
    return inside
