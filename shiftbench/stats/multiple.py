"""Correction of p-values for multiple tests."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The adjusted p of each test, in the order of `p_values` (Holm 1979).

    With a probability of at least 1 - alpha no true null hypothesis gets an adjusted p of alpha or less. The i-th
    smallest of m p-values is multiplied by m - i + 1 and limited to 1; where the adjusted p of the next smaller p-value
    is larger, it is used instead. None (no test was done) stays None and is not counted in m.
    """
    present = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for i, (p, place) in enumerate(present):
        largest = max(largest, min(1.0, (len(present) - i) * p))
        adjusted[place] = largest
    return adjusted
