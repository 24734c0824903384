"""The error for NaN and inf in what a model computes. It names a dtype in which the numbers may be finite."""

from __future__ import annotations

from shiftbench.errors import InputError

# dtype -> what to type instead. bfloat16 has the range of float32.
REMEDIES = {
    "float16": "float16 overflows at 65,504; use dtype=bfloat16 or dtype=float32",
    "bfloat16": "use dtype=float32",
    "float32": "use dtype=float64; if that gives NaN or inf too, its weights or its config.json are damaged",
}
DAMAGED = "its weights or its config.json are damaged"


def not_finite_error(name: str, dtype: str, what: str) -> InputError:
    """The error to raise.

    name: the model. dtype: of its computation. what: what was not finite, as part of a sentence.
    """
    return InputError(f"{name} in {dtype}: {what}; {REMEDIES.get(dtype, DAMAGED)}")
