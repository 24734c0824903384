"""Null models: the same findings on models whose weights changed without instruction tuning (docs/controls.md)."""

from shiftbench.controls.model_null import ModelNull
from shiftbench.controls.weight_null import DRAWINGS, WeightNull

__all__ = ["DRAWINGS", "ModelNull", "WeightNull", "none"]


def none() -> None:
    """No control: conf/control/none.yaml names this, and the scores stand for themselves."""
