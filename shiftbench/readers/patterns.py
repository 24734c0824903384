"""Untrusted regular expressions: some take hours to match, so they are first tried in a process that can be killed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence

from shiftbench.errors import InputError

SECONDS = 5.0  # limit for all matches together; usual patterns take milliseconds
MOST = 1000  # most patterns that one call accepts
# A pattern of these characters is matched in one pass. Other patterns are tried: even one without repetition can take
# hours, as forty groups (.|.) in a row do.
PLAIN = re.compile(r"[\w.\- ]*")

# Run by a new interpreter, because a process can be killed. In this process only a signal handler could end a match,
# only in the main thread, and only where the caller leaves its handlers to us.
_TRIAL = """
import json, re, sys
matched, searched, texts = json.load(sys.stdin)
for pattern in [*matched, *searched]:
    try:
        found = re.compile(pattern)
    except Exception:
        continue
    for text in texts:
        found.match(text), found.fullmatch(text)
        if pattern in searched:
            found.search(text)
"""


def check_patterns(patterns: Sequence[str], texts: Sequence[str], what: str, searched: Sequence[str] = ()) -> None:
    """Raise InputError where matching the patterns with the texts takes too long, or there are more than MOST patterns.

    re.match and re.fullmatch of all patterns with all texts, and re.search of the patterns `searched`, may together
    take SECONDS of wall-clock time, the start of an interpreter included. Patterns of letters, digits, "_", ".", "-"
    and spaces alone are not tried, and patterns that cannot be compiled are no error here. what: where the patterns
    come from; messages begin with it. searched: further patterns, which are searched for as well; a search takes longer
    than a match.
    """
    count = len(patterns) + len(searched)
    if count > MOST:
        raise InputError(f"{what}: it has {count:,} patterns; at most {MOST:,} are read")
    tried = [[pattern for pattern in each if not PLAIN.fullmatch(pattern)] for each in (patterns, searched)]
    slow = [*tried[0], *tried[1]]
    if not slow:
        return
    request = json.dumps([*tried, list(texts)])
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", _TRIAL], input=request, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{what}: its patterns take longer than {SECONDS:.0f} s to try; the longest is {max(slow, key=len)[:100]!r}"
        ) from None
