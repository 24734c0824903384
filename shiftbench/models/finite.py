"""The error for NaN and inf in what a model computes. It names a dtype in which the numbers may be finite."""

from __future__ import annotations

from shiftbench.errors import InputError

# dtype of the computation -> the end of the message: what to use instead. bfloat16 has the range of float32, so it does
# not overflow where float16 does.
REMEDIES = {
    "float16": "float16 overflows at 65,504; use dtype=bfloat16 or dtype=float32",
    "bfloat16": "use dtype=float32",
    "float32": "use dtype=float64; if that gives NaN or inf too, its weights or its config.json are damaged",
}
DAMAGED = "its weights or its config.json are damaged"


def not_finite_error(name: str, dtype: str, what: str) -> InputError:
    """The InputError that the caller is to raise because a model computed NaN or inf.

    name: the model's name. dtype: the dtype of its computation; float64 has no entry in REMEDIES, so the message says
    then that the model's files are damaged. what: a clause that says what was not finite.
    """
    return InputError(f"{name} in {dtype}: {what}; {REMEDIES.get(dtype, DAMAGED)}")
