"""Whatever goes wrong while something from outside is read ends in one InputError that names it."""

import json

import pytest
import torch

from shiftbench.errors import InputError
from shiftbench.readers import one_line, reading


class PanicException(BaseException):
    """Like pyo3's, which Rust libraries raise on a bug: a BaseException whose module has no name."""


@pytest.mark.parametrize(
    "error",
    [
        TypeError("unsupported operand type(s)"),
        AttributeError("'NoneType' object has no attribute 'get'"),
        IndexError("list index out of range"),
        ZeroDivisionError("integer modulo by zero"),
        AssertionError(),
        KeyError("weight_map"),
        RecursionError("maximum recursion depth exceeded"),
        MemoryError(),
        Exception("data did not match any variant"),
        PanicException("called `Option::unwrap()` on a `None` value"),
    ],
)
def test_any_failure_names_the_input_and_keeps_its_cause(error):
    with pytest.raises(InputError, match=r"^model DIR: ") as caught, reading("model DIR", "give another folder"):
        raise error
    assert caught.value.__cause__ is error
    assert str(caught.value).endswith("; give another folder")


@pytest.mark.parametrize(
    "error", [InputError("as it is"), torch.OutOfMemoryError("GPU"), KeyboardInterrupt(), SystemExit(3)]
)
def test_what_is_no_failure_of_the_input_passes_unchanged(error):
    with pytest.raises(type(error)) as caught, reading("model DIR"):
        raise error
    assert caught.value is error


def test_an_error_after_the_reading_is_ours_and_passes():
    with reading("model DIR"):
        found = json.loads("{}")
    with pytest.raises(KeyError):
        found["ours"]


def test_every_line_of_a_message_is_kept():
    assert one_line(ValueError("Unable to load:\n  - layer 3\n\n  - layer 4")) == "Unable to load: - layer 3 - layer 4"
    assert one_line(KeyError("x")) == "KeyError: 'x'"
    assert one_line(AssertionError()) == "AssertionError"
    assert one_line(ValueError("long " * 1000)).endswith("[cut]")
