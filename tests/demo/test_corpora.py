"""The sampling weights of the demo's rows are those that their docstring states."""

import math

import pytest

from shiftbench.demo.corpora import Triple, sampling_weights


def test_rows_of_an_instruction_are_counted_over_seed_tasks_and_other_rows_together():
    counts = {("seed_tasks", "both"): 1, ("seed_tasks", "one"): 1, ("other", "both"): 3, ("other", "own"): 9}
    rows = [Triple(name, "", "x", source) for (source, name), count in counts.items() for _ in range(count)]
    weights = sampling_weights(rows, 0.1)
    assert sum(weights) == pytest.approx(1)
    assert sum(weights[:2]) == pytest.approx(0.1)
    assert weights[1] / weights[0] == pytest.approx(math.sqrt(4))  # "both" has four rows in all, "one" has one
    assert sum(weights[5:]) / sum(weights[2:5]) == pytest.approx(math.sqrt(9) / (3 / math.sqrt(4)))
