"""The demo models that this package contains, and the program that trained them.

train    trains the four models
corpora  the training data
losses   batches, and the loss on them
card     the model cards
"""

from __future__ import annotations

from pathlib import Path

from shiftbench.errors import InputError

MODELS = ("base", "tuned", "tuned_lora", "continued")


def model_folder(name: str) -> str:
    """The absolute path of a demo model: base, tuned, tuned_lora (an adapter on base) or continued.

    Raises InputError for another name.
    """
    if name not in MODELS:
        raise InputError(f"there is no demo model {name!r}; choose from {', '.join(MODELS)}")
    return str(Path(__file__).parent / "models" / name)
