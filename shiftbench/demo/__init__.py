"""The models that this package contains, and the programs that trained them.

train      trains the four demo models
tune       tunes a model from the hub; it made the adapter smollm2_lora
corpora    the training data
losses     batches, and the loss on them
card       the cards of the demo models
tune_card  the card of a tuned model
"""

from __future__ import annotations

from pathlib import Path

from shiftbench.errors import InputError

MODELS = ("base", "tuned", "tuned_lora", "continued")
ADAPTERS = ("smollm2_lora",)  # of models that are not in the package


def model_folder(name: str) -> str:
    """The absolute path of a bundled model.

    name: one of the demo models base, tuned, tuned_lora (an adapter on base) and continued, or smollm2_lora, an adapter
    on HuggingFaceTB/SmolLM2-135M-Instruct. Raises InputError for another name.
    """
    if name not in MODELS + ADAPTERS:
        raise InputError(f"there is no demo model {name!r}; choose from {', '.join(MODELS + ADAPTERS)}")
    return str(Path(__file__).parent / "models" / name)
