"""From characters to pieces: which pieces of a published prompt spell its spans, and which spans none does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shiftbench.prompts import Span

UNSPELLED = "no pieces spell it"
ONLY_MARKS = "only dropped marks spell it"

BOUNDARY = "\u2581"  # SentencePiece's mark of a space
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
MARKS = (BOUNDARY, "<0x0A>", BOUNDARY + '"')  # at the ends of a span the paper drops these


@dataclass(frozen=True)
class Unaligned:
    """A span [start, stop) of a prompt that reaches no piece, and why: UNSPELLED or ONLY_MARKS."""

    span: Span
    text: str
    reason: str


def piece_bytes(piece: str) -> bytes:
    """What a SentencePiece piece spells, in UTF-8."""
    byte = BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else _utf8(piece.replace(BOUNDARY, " "))


def piece_texts(pieces: Sequence[str]) -> list[str]:
    """What each piece spells, for people; a byte of a longer character is its replacement character."""
    return [piece_bytes(piece).decode("utf-8", "replace") for piece in pieces]


def align(pieces: Sequence[str], prompt: str, spans: Sequence[Span]) -> tuple[Tensor, list[Unaligned]]:
    """(mask_P, unaligned): the pieces that spell any part of a span, and the spans that reach none.

    The pieces spell " " + prompt. Where they do not, the bytes that both begin with and that both end with are still
    matched; a span that reaches beyond those is UNSPELLED.
    """
    spelled = [piece_bytes(piece) for piece in pieces]
    end_P = np.cumsum([len(part) for part in spelled], dtype=np.int64)
    begin_P = end_P - np.array([len(part) for part in spelled], dtype=np.int64)
    text = _utf8(" " + prompt)
    byte_of = np.cumsum([0, *(len(_utf8(character)) for character in " " + prompt)])
    whole = b"".join(spelled)
    head, tail = _matched(whole, text)
    mask_P = torch.zeros(len(pieces), dtype=torch.bool)
    unaligned = []
    for start, stop in spans:
        first, last = int(byte_of[start + 1]), int(byte_of[stop + 1])
        reached = last <= head or first >= len(text) - tail
        shift = 0 if last <= head else len(whole) - len(text)  # of the bytes that both end with
        spells_P = (end_P > first + shift) & (begin_P < last + shift)
        inside = _without_marks(np.flatnonzero(spells_P).tolist(), pieces) if reached else []
        mask_P[inside] = True
        if not inside:
            unaligned.append(Unaligned((start, stop), prompt[start:stop], ONLY_MARKS if reached else UNSPELLED))
    return mask_P, unaligned


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _matched(spelled: bytes, text: bytes) -> tuple[int, int]:
    """How many bytes both begin with, and how many of the rest both end with."""
    if spelled == text:
        return len(text), 0
    shorter = min(len(spelled), len(text))
    head = next((i for i in range(shorter) if spelled[i] != text[i]), shorter)
    most = shorter - head
    return head, next((i for i in range(most) if spelled[-1 - i] != text[-1 - i]), most)


def _without_marks(inside: list[int], pieces: Sequence[str]) -> list[int]:
    while inside and pieces[inside[0]] in MARKS:
        inside = inside[1:]
    while inside and pieces[inside[-1]] in MARKS:
        inside = inside[:-1]
    return inside
