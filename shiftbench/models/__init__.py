"""Models: loading them, what identifies them, and where the weights of each architecture are."""

from shiftbench.models.loading import ModelShape, check, load, shape_of, wrap
from shiftbench.models.model import Model
from shiftbench.models.source import ModelSource
from shiftbench.models.views import WeightViews

__all__ = ["Model", "ModelShape", "ModelSource", "WeightViews", "check", "load", "shape_of", "wrap"]
