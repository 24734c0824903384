"""A span gets the pieces that spell any of its characters, and a span without a piece is reported."""

import pytest

from shiftbench.published.alignment import ONLY_MARKS, UNSPELLED, align, piece_texts
from tests.published.synthetic import pieces_of


def spelled(pieces, prompt, *spans):
    mask_P, unaligned = align(pieces, prompt, spans)
    return [piece for piece, on in zip(pieces, mask_P.tolist(), strict=True) if on], unaligned


def test_a_span_has_every_piece_that_spells_a_part_of_it():
    prompt = "Say 日 twice.\nOutput:"
    pieces = ["▁S", "ay", "▁", "<0xE6>", "<0x97>", "<0xA5>", "▁twice", ".", "<0x0A>", "Out", "put", ":"]
    assert spelled(pieces, prompt, (0, 5)) == (["▁S", "ay", "▁", "<0xE6>", "<0x97>", "<0xA5>"], [])
    assert spelled(pieces, prompt, (8, 13)) == (["▁twice", "."], [])
    assert piece_texts(pieces)[2:7] == [" ", "\ufffd", "\ufffd", "\ufffd", " twice"]


def test_marks_at_both_ends_of_a_span_are_dropped_and_those_inside_are_kept():
    prompt = 'a "b\nc" d'
    pieces = ["▁a", '▁"', "b", "<0x0A>", "c", '"', "▁", "d"]
    assert spelled(pieces, prompt, (2, 7)) == (["b", "<0x0A>", "c", '"'], [])
    # The same piece inside another span is kept: marks are dropped at the ends of a span only.
    assert spelled(pieces, prompt, (0, 9)) == ([*pieces], [])


def test_a_span_of_marks_alone_is_reported():
    kept, (unaligned,) = spelled(pieces_of("one\ntwo"), "one\ntwo", (3, 4))
    assert kept == [] and (unaligned.span, unaligned.text, unaligned.reason) == ((3, 4), "\n", ONLY_MARKS)


@pytest.mark.parametrize(
    ("change", "aligned"),
    [
        (lambda pieces: pieces[:-2], [True, True, False]),  # cut short
        (lambda pieces: [*pieces[:2], "▁2", *pieces[3:]], [True, False, True]),  # another word of another length
        (lambda pieces: ["▁0", *pieces[1:]], [False, True, True]),
        (lambda pieces: [*pieces[:2], "▁Two", *pieces[3:]], [True, False, True]),  # another word of the same length
        (lambda pieces: [], [False, False, False]),
    ],
)
def test_pieces_that_spell_something_else_still_align_at_both_ends(change, aligned):
    prompt = "one and two or six"
    spans = [(0, 3), (8, 11), (15, 18)]
    pieces = ["▁one", "▁and", "▁two", "▁or", "▁six"]
    changed = change(pieces)
    for span, whole, expected in zip(spans, (["▁one"], ["▁two"], ["▁six"]), aligned, strict=True):
        kept, unaligned = spelled(changed, prompt, span)
        assert (kept, [each.reason for each in unaligned]) == ((whole, []) if expected else ([], [UNSPELLED]))


def test_a_piece_is_not_matched_to_two_words():
    kept, unaligned = spelled(["▁go", "▁on"], "go go on", (0, 2), (3, 5))
    assert [each.span for each in unaligned] == [(3, 5)]
    assert kept == ["▁go"]
