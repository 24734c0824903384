"""An option that must be a number is refused where it is none, with its name and its limits; true is no number."""

import re

import pytest

from shiftbench.errors import InputError
from shiftbench.readers.numbers import check_number, check_whole


@pytest.mark.parametrize(
    ("value", "typed"),
    [(None, "null"), (True, "true"), (False, "false"), (1.0, "1.0"), (0, "0"), (-3, "-3"), ("7", "'7'"), ([7], "[7]")],
)
def test_what_is_no_whole_number_of_at_least_1_is_refused(value, typed):
    with pytest.raises(InputError, match=re.escape(f"a.b={typed} must be a whole number of at least 1") + "$"):
        check_whole("a.b", value, 1)


def test_limits_are_allowed_themselves_and_null_where_it_means_something():
    check_whole("a", 1, 1)
    check_whole("a", -(2**80), None)
    check_whole("a", None, 1, null="all")
    for limit in (1, 255):
        check_whole("a", limit, 1, 255)
    with pytest.raises(InputError, match=r"^a=256 must be a whole number from 1 to 255, or null for all$"):
        check_whole("a", 256, 1, 255, null="all")


@pytest.mark.parametrize(
    ("value", "typed"),
    [(None, "null"), (True, "true"), ("7", "'7'"), (float("nan"), "nan"), (float("inf"), "inf")],
)
def test_what_is_no_finite_number_is_refused(value, typed):
    with pytest.raises(InputError, match=re.escape(f"a={typed} must be a number")):
        check_number("a", value)
    check_number("a", 0.5)
    check_number("a", None, null="the default")
