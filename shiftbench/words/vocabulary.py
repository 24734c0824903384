"""Lists of words, most frequent first."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from shiftbench.errors import InputError
from shiftbench.readers.text_files import packaged_lines, user_lines

LETTERS = re.compile(r"[^\W\d_]+")  # what GloVe and a tokenizer both take for one word: no digit, hyphen, apostrophe


@dataclass(frozen=True)
class Vocabulary:
    """Distinct words, most frequent first. name: where they come from, for people."""

    words: tuple[str, ...]
    name: str

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of the words in their order."""
        return hashlib.sha256("\n".join(self.words).encode("utf-8", "surrogatepass")).hexdigest()

    def check_size(self, wanted: int, option: str) -> None:
        """Raise InputError where an option wants more words than there are."""
        if wanted > len(self.words):
            raise InputError(
                f"{option}={wanted} is larger than the vocabulary ({len(self.words)} words); "
                f"lower it or take a larger vocabulary"
            )


def packaged(size: int) -> Vocabulary:
    """The packaged prompts' words and, up to `size` in all, the most frequent English ones, by wordfreq's frequency.

    Words are lower-cased and made of letters only; a prompt's word that no corpus of wordfreq holds is a typo or an
    identifier and left out. Equal frequencies are in alphabetical order. Raises InputError where size is not positive.
    """
    import wordfreq

    if not isinstance(size, int) or size < 1:
        raise InputError(f"vocabulary.size={size!r} must be a whole number of at least 1")
    frequency = {word: f for word, f in wordfreq.get_frequency_dict("en").items() if LETTERS.fullmatch(word)}
    ranked = sorted(frequency, key=lambda word: (-frequency[word], word))
    of_prompts = prompt_words()
    # Stable: the prompts' words stand in front, so they are the last to fall to the limit.
    chosen = sorted(ranked, key=lambda word: word not in of_prompts)[:size]
    ordered = sorted(chosen, key=lambda word: (-frequency[word], word))
    return Vocabulary(tuple(ordered), f"packaged, {len(ordered)} words")


def prompt_words() -> set[str]:
    """Lower-cased words of letters in the prompts that ship with the package."""
    texts = []
    for line in packaged_lines("self_instruct/user_oriented_instructions.jsonl"):
        row = json.loads(line)
        texts += [row["instruction"], row["instances"][0]["input"]]
    texts += [json.loads(line)["turns"][0] for line in packaged_lines("mt_bench/question.jsonl")]
    return {word.lower() for text in texts for word in LETTERS.findall(text)}


def tsv(path: str) -> Vocabulary:
    """Words of a file in its order: the word, a TAB, then anything (a frequency).

    Raises InputError, with the line's number, where there is no TAB, no word, or a word that came before.
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


def verbs(kind: Literal["instruction", "general"]) -> list[str]:
    """38 verbs of instructions as Wu et al. use them, or the 3,000 most frequent other verbs of WordNet 3.0."""
    return packaged_lines(f"verbs/{kind}.txt")
