"""The packaged lists of English words: what kinds of words there are, for whoever asks of what kind one is."""

from __future__ import annotations

from functools import lru_cache

from shiftbench.readers.text_files import packaged_lines


@lru_cache(maxsize=1)
def word_lists() -> dict[str, tuple[str, ...]]:
    """The packaged lists by label: seeds of the user tasks, closed classes, affixes."""
    lists: dict[str, tuple[str, ...]] = {}
    for line in packaged_lines("annotate/words.txt"):
        label, colon, words = line.partition(":")
        if colon and not line.startswith("#"):
            lists[label] = (*lists.get(label, ()), *words.split())
    return lists
