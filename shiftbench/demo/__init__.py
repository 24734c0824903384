"""The bundled demo models, and how they were made."""

from __future__ import annotations

from pathlib import Path

from shiftbench.errors import InputError

MODELS = ("base", "tuned", "tuned_lora", "continued")


def model_folder(name: str) -> str:
    """Absolute path of a bundled model: base, tuned, tuned_lora (an adapter on base) or continued."""
    if name not in MODELS:
        raise InputError(f"there is no demo model {name!r}; choose from {', '.join(MODELS)}")
    return str(Path(__file__).parent / "models" / name)
