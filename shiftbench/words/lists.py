"""The packaged lists of English words by kind (shiftbench/data/annotate/words.txt)."""

from __future__ import annotations

from functools import lru_cache

from shiftbench.readers.text_files import packaged_lines


@lru_cache(maxsize=1)
def word_lists() -> dict[str, tuple[str, ...]]:
    """A dict from the label of each packaged list to its words, in the order of the file.

    There are seed words of each user task (a label each, such as "writing"), words of closed classes ("closed"), and
    affixes without hyphens ("suffix", "prefix"). Lines of the file that have the same label are joined. Every call
    returns the same dict, so callers must not change it.
    """
    lists: dict[str, tuple[str, ...]] = {}
    for line in packaged_lines("annotate/words.txt"):
        label, colon, words = line.partition(":")
        if colon and not line.startswith("#"):
            lists[label] = (*lists.get(label, ()), *words.split())
    return lists
