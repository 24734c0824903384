"""Spans that part a word or a character are noted, and those that end where words end are not."""

import pytest

from shiftbench.prompts import Prompt
from shiftbench.prompts.datasets.mt_bench import MtBench
from shiftbench.prompts.datasets.self_instruct import SelfInstruct
from shiftbench.prompts.spans import inside, span_notes


@pytest.mark.parametrize(
    "text",
    [
        "rob|ot", "GPT|4", "naï|ve", "cafe|\u0301", "👩|\u200d💻", "👩\u200d|💻", "👍|🏽", "❤|\ufe0f", "1|\u20e3",
        "🇫|🇷", "🇫🇷🇩|🇪", "a\r|\nb", "Ангел|ам", "한국|어", "ก|ั", "漢|\ufe00", "🏴|\U000e0067",
        "\u0645\u06cc|\u200c\u062e",
    ],
)  # fmt: skip
def test_a_border_inside_a_word_or_a_character(text):
    assert inside(text.replace("|", ""), text.index("|"))


@pytest.mark.parametrize(
    "text",
    [
        "|word", "word|", "one| two", "one |two", "poem|.", "Input:|x", "(|a)", "don|'t", "don'|t", "well|-known",
        "a|_b", "翻译|你好", "翻译|Hello", "見|る", "ไทย|คำ", "🇫🇷|🇩🇪", "🙂|🙂", "a|🙂", "a\n|b", "a\r\n|b", "x|\n",
        "a|\u2028b",
    ],
)  # fmt: skip
def test_a_border_between_words(text):
    assert not inside(text.replace("|", ""), text.index("|"))


@pytest.mark.parametrize("dataset", [SelfInstruct(None), MtBench(None)])
def test_no_packaged_prompt_is_noted(dataset):
    assert span_notes(dataset()) == []


def test_a_note_counts_the_prompts_and_names_the_first():
    text = "Übersetze naïve Wörter. Input: äöü und mehr"
    instruction = text[: text.index(".")]
    in_bytes = len(instruction.encode())
    wrong = [Prompt(f"q{i}", text, ((0, in_bytes),), ((31, 33),)) for i in range(7)]
    good = Prompt("good", text, ((0, len(instruction)),), ((31, 34),))
    (note,) = span_notes([good, *wrong])
    assert note.startswith("7 prompts have a span that begins or ends inside a word")
    assert "q0, q1, q2, q3, q4 and 2 more" in note and "not bytes" in note and "good" not in note
    assert "(q0: instruction span [0, 25) ends between 've Wörter. I' and 'nput: äöü un')" in note


def test_every_kind_of_span_is_looked_at():
    text = "Write robots now"
    for spans in ({"instruction_spans": ((0, 9),)}, {"context_spans": ((8, 12),)}, {"key_spans": ((6, 11),)}):
        assert len(span_notes([Prompt("a", text, **{"instruction_spans": (), **spans})])) == 1
