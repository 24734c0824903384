"""Many tests at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p of each test: below alpha for none that is true with probability 1 - alpha (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, made no smaller than the ones before it, and no larger than 1.
    None (no test was made) stays None and does not count.
    """
    made = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for i, (p, place) in enumerate(made):
        largest = max(largest, min(1.0, (len(made) - i) * p))
        adjusted[place] = largest
    return adjusted
