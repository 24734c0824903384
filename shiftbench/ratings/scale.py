"""The scale of Wu et al. 2023 (section 4.1), and the lines of a file of ratings.

-1: the response is excluded. 1: it does not follow its instruction. 2 to 4: it follows the instruction, 4 fully.
"""

from __future__ import annotations

from typing import Any

from shiftbench.errors import InputError
from shiftbench.readers import json_value

EXCLUDED, UNFOLLOWED, FOLLOWED, BEST = -1, 1, 2, 4  # ratings from FOLLOWED to BEST: the response follows
RATINGS = (EXCLUDED, *range(UNFOLLOWED, BEST + 1))


def rating(line: str) -> dict[str, Any]:
    """The content of one line of a file of ratings, a dict with "id" (str), "model" (str) and "rating" (in RATINGS).

    Further fields are kept. Raises InputError where the line is no JSON object, where one of the three fields is
    missing or has another type, and where the rating is not in RATINGS.
    """
    row = json_value(line)
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(row.get("model"), str):
        raise InputError('wanted {"id": "...", "model": "...", "rating": 1}')
    given = row.get("rating")
    if type(given) is not int or given not in RATINGS:
        shown = f"a {type(given).__name__}" if isinstance(given, list | dict) else repr(given)[:40]
        raise InputError(f"rating must be one of {', '.join(map(str, RATINGS))}, got {shown}")
    return row
