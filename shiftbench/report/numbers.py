"""Numbers as people read them, on pages and in the terminal."""

from __future__ import annotations

import math
from numbers import Integral, Real

from shiftbench.report.text import visible


def number(value: object, signed: bool = False) -> str:
    """The value as text: an integer with thousands separators, another number with three decimals.

    A number that is no integer and whose magnitude is below 0.001 (but not 0) or from 10,000 on is in scientific
    notation with two significant digits, as '2.4e-11'. NaN is 'n/a', and infinities are '∞' and '-∞'. A value that is
    no number, or a bool, becomes its text with hidden characters spelled out. signed: 0 and positive finite numbers
    have a plus sign.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        return visible(str(value))
    if isinstance(value, Integral):
        return f"{int(value):+,}" if signed else f"{int(value):,}"
    x = float(value)
    if math.isnan(x):
        return "n/a"
    if math.isinf(x):
        return "∞" if x > 0 else "-∞"
    has_decimals = x == 0 or 0.001 <= abs(x) < 10_000
    return format(x, ("+" if signed else "") + (".3f" if has_decimals else ".1e"))


def p_value(p: float | None) -> str:
    """A p-value with at most two significant digits, as '0.03' or '1.2e-05'.

    None, where there was no test, gives ''. NaN, where the test gave no number, gives 'n/a'.
    """
    if p is None:
        return ""
    return "n/a" if math.isnan(p) else f"{p:.2g}"
