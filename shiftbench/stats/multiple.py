"""Correction of p-values for multiple tests."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p of each test (Holm 1979).

    With probability 1 - alpha no true null hypothesis gets an adjusted p below alpha. The i-th smallest of m p-values
    is multiplied by m - i + 1, then raised to the adjusted p before it where that is larger, and limited to 1.
    None (there is no test) stays None and is not counted in m.
    """
    present = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for i, (p, place) in enumerate(present):
        largest = max(largest, min(1.0, (len(present) - i) * p))
        adjusted[place] = largest
    return adjusted
