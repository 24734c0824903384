"""Untrusted regular expressions: some take hours to match, and nothing inside a process can stop the match."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from shiftbench.errors import InputError

SECONDS = 5.0  # limit for all matches together; usual patterns take milliseconds
MOST = 1000  # most patterns that one call tries
REPEATS = re.compile(r"[*+{]")  # a pattern without repetition cannot take long

# `re` handles no signal while it matches, so the matches are tried in a process that can be killed.
_TRIAL = """
import json, re, sys
patterns, texts = json.load(sys.stdin)
for pattern in patterns:
    try:
        found = re.compile(pattern)
    except Exception:
        continue
    for text in texts:
        found.match(text), found.fullmatch(text)
"""


def check_patterns(patterns: Sequence[str], texts: Sequence[str], what: str) -> None:
    """Raise InputError where matching the patterns with the texts takes too long, or where there are more than MOST.

    All patterns together may take SECONDS for all texts. Patterns without repetition are not tried, and patterns that
    cannot be compiled are no error here. what: where the patterns come from; messages begin with it.
    """
    if len(patterns) > MOST:
        raise InputError(f"{what}: it has {len(patterns):,} patterns; at most {MOST:,} are read")
    slow = [pattern for pattern in patterns if REPEATS.search(pattern)]
    if not slow:
        return
    request = json.dumps([slow, list(texts)])
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRIAL], input=request, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{what}: its patterns take longer than {SECONDS:.0f} s to try; the longest is {max(slow, key=len)[:100]!r}"
        ) from None
