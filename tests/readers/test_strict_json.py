"""JSON from outside: nothing is dropped silently, and every failure is an InputError."""

import pytest

from shiftbench.errors import InputError
from shiftbench.readers import json_value


def test_values_are_those_of_json():
    assert json_value('{"a": [1, 2.5, null, "é"]}') == {"a": [1, 2.5, None, "é"]}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '[{"b": {"a": 1, "c": 2, "a": 1}}]'])
def test_a_key_given_twice_is_refused(text):
    with pytest.raises(InputError, match="key 'a' twice"):
        json_value(text)


@pytest.mark.parametrize(
    "text", ["", "{", "9" * 4301, "[" * 3000, "[" * 300_000, '"\ud800', b"\xff\xfe\x00", b'{"a": "\xff"}']
)
def test_what_is_not_json_is_refused(text):
    with pytest.raises(InputError, match=r"ratings\.jsonl is not JSON"):
        json_value(text, "ratings.jsonl")
