"""Controls: each supplies null models, on which a job's findings are scored for comparison (docs/controls.md).

weight_null.py  WeightNull: base plus a random change, as large as the change that tuning made
drawings.py     the random changes: permuted, gaussian, rotated
model_null.py   ModelNull: a model that the user names, for example base trained further on plain text
"""

from shiftbench.controls.drawings import DRAWINGS
from shiftbench.controls.model_null import ModelNull
from shiftbench.controls.weight_null import WeightNull

__all__ = ["DRAWINGS", "ModelNull", "WeightNull", "none"]


def none() -> None:
    """Returns None, which stands for no control: scores are then not compared with null models.

    It is the `_target_` of conf/control/none.yaml.
    """
