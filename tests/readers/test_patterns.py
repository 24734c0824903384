"""Untrusted regular expressions either match within the time limit or are refused."""

import pytest

from shiftbench.errors import InputError
from shiftbench.readers import patterns


def test_usual_patterns_pass_whether_they_compile_or_not():
    names = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(100)]
    patterns.check_patterns([r".*\.(q|k)_proj", "((", "q_proj", r"model\.layers\.\d+\..*"], names, "here")


@pytest.mark.parametrize("pattern", [r"(\w+\.?)+!", r"(([a-z._0-9])+)+X", "(.|.)" * 30 + "X"])
def test_one_that_never_ends_is_refused(monkeypatch, pattern):
    monkeypatch.setattr(patterns, "SECONDS", 0.5)
    with pytest.raises(InputError, match=r"^here: its patterns take longer than"):
        patterns.check_patterns([pattern], ["model.layers.0.self_attn.q_proj"], "here")


def test_too_many_are_refused():
    with pytest.raises(InputError, match=r"^here: it has 1,001 patterns; at most 1,000 are read"):
        patterns.check_patterns(["a"] * 1001, [], "here")
