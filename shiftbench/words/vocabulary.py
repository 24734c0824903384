"""Lists of words, most frequent first."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from shiftbench.errors import InputError
from shiftbench.readers.numbers import check_whole
from shiftbench.readers.text_files import packaged_lines, user_lines

LETTERS = re.compile(r"[^\W\d_]+")  # a run of letters, without digits, hyphens and apostrophes


@dataclass(frozen=True)
class Vocabulary:
    """Distinct words, most frequent first. name: says where the words are from, for messages and reports."""

    words: tuple[str, ...]
    name: str

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the words in their order."""
        return hashlib.sha256("\n".join(self.words).encode("utf-8", "surrogatepass")).hexdigest()

    def check_size(self, wanted: int, option: str) -> None:
        """Raise InputError where an option wants more words than the vocabulary has.

        wanted: the value of the option. option: the name of the option, for the message.
        """
        if wanted > len(self.words):
            raise InputError(
                f"{option}={wanted} is larger than the vocabulary ({len(self.words)} words); "
                f"lower it or take a larger vocabulary"
            )


def packaged(size: int) -> Vocabulary:
    """The words of the packaged prompts and the most frequent other English words, `size` words in all.

    The words are ordered by their frequency in wordfreq, highest first, and words of equal frequency alphabetically.
    They are in lower case and have letters only. A word of a prompt that wordfreq does not know is taken for a typo or
    an identifier and left out. Where the prompts have more than `size` words, the vocabulary is the most frequent of
    them. It is smaller than `size` where wordfreq has fewer words. Raises InputError where size is not a positive whole
    number.
    """
    import wordfreq

    check_whole("vocabulary.size", size, 1)
    frequency = {word: f for word, f in wordfreq.get_frequency_dict("en").items() if LETTERS.fullmatch(word)}
    ranked = sorted(frequency, key=lambda word: (-frequency[word], word))
    of_prompts = prompt_words()
    # The key is False for the prompts' words, so they come first and the limit cuts off other words. The sort is
    # stable, so each of the two groups stays in the order of frequency.
    chosen = sorted(ranked, key=lambda word: word not in of_prompts)[:size]
    ordered = sorted(chosen, key=lambda word: (-frequency[word], word))
    return Vocabulary(tuple(ordered), f"packaged, {len(ordered)} words")


def prompt_words() -> set[str]:
    """The runs of letters in the packaged prompts, in lower case.

    Letters are those of any alphabet. Other characters separate words: "GPT-4 isn't" gives "gpt", "isn" and "t". The
    prompts are the user-oriented instructions of self_instruct with their inputs, and the first turns of mt_bench.
    """
    texts = []
    for line in packaged_lines("self_instruct/user_oriented_instructions.jsonl"):
        row = json.loads(line)
        texts += [row["instruction"], row["instances"][0]["input"]]
    texts += [json.loads(line)["turns"][0] for line in packaged_lines("mt_bench/question.jsonl")]
    return {word.lower() for text in texts for word in LETTERS.findall(text)}


def tsv(path: str) -> Vocabulary:
    """The words of a UTF-8 file, in its order, which should be most frequent first.

    The file is decompressed where its name ends in .gz. Each line has a word, a TAB, and then anything, such as a
    frequency, which is ignored. A word keeps its spaces and its case. Raises InputError, with the line's number, where
    a line (a blank one included) has no TAB or no word before it, or repeats a word. Raises it too where the file
    cannot be read or holds no line.
    """
    first_line: dict[str, int] = {}
    for number, line in enumerate(user_lines(path, "vocabulary.path"), start=1):
        word, tab, _ = line.partition("\t")
        where = f"vocabulary.path={path}, line {number}"
        if not tab or not word.strip():
            raise InputError(f"{where}: wanted a word, a TAB, then its frequency or anything, got {line[:40]!r}")
        if word in first_line:
            raise InputError(f"{where}: the word {word!r} is already on line {first_line[word]}; remove one of the two")
        first_line[word] = number
    if not first_line:
        raise InputError(f"vocabulary.path={path}: the file holds no word; write one a line, most frequent first")
    return Vocabulary(tuple(first_line), path)


def verbs(kind: Literal["instruction", "instruction_larger", "general"]) -> list[str]:
    """A packaged list of distinct verbs.

    instruction: the 38 instruction verbs of Wu et al. instruction_larger: these and 31 more, the verbs with which
    sentences of at least two of the packaged prompts begin; the 38 come first. general: the 3,000 most frequent verbs
    of WordNet 3.0 without the 38, most frequent first; the 31 are among them.
    """
    return packaged_lines(f"verbs/{kind}.txt")
