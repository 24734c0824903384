"""One-sided confidence bounds of a proportion from a number of successes (Clopper and Pearson 1934)."""

from __future__ import annotations

from scipy.stats import beta


def upper_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """The largest proportion that is compatible with so few successes among n independent trials.

    It is exact and one-sided: where the proportion is larger, so few successes or fewer have a probability of less than
    1 - confidence. 1 where n is 0.
    """
    return 1.0 if successes == n else float(beta.ppf(confidence, successes + 1, n - successes))


def lower_bound(successes: int, n: int, confidence: float = 0.95) -> float:
    """The smallest proportion that is compatible with so many successes among n independent trials.

    It is exact and one-sided, as `upper_bound` is. 0 where n is 0.
    """
    return 0.0 if successes == 0 else float(beta.ppf(1 - confidence, successes, n - successes + 1))
