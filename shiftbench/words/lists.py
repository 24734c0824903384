"""The packaged lists of English words by kind (shiftbench/data/annotate/words.txt)."""

from __future__ import annotations

from functools import lru_cache

from shiftbench.readers.text_files import packaged_lines


@lru_cache(maxsize=1)
def word_lists() -> dict[str, tuple[str, ...]]:
    """The packaged lists by label: seed words of each user task, words of closed classes, prefixes and suffixes."""
    lists: dict[str, tuple[str, ...]] = {}
    for line in packaged_lines("annotate/words.txt"):
        label, colon, words = line.partition(":")
        if colon and not line.startswith("#"):
            lists[label] = (*lists.get(label, ()), *words.split())
    return lists
