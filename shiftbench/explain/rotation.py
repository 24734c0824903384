"""Explanation of a pair: what kind of change the feed-forward down-projections went through (docs/mathematics.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from shiftbench import stats
from shiftbench.contracts.explainer import PairExplainer
from shiftbench.models import Model
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work


@dataclass(frozen=True)
class Rotation(PairExplainer):
    """Per layer, the shares of the weight change that a rotation and a rescaling of the base's rows explain.

    seed: of the permuted change whose rotation share is the chance level.
    """

    seed: int
    method: ClassVar[str] = "rotation"
    version: ClassVar[int] = 1

    def work(self, base: Model, tuned: Model) -> list[Work]:
        """A unit a layer: share_4 = rotation, rotation of a permuted change, rescaling, relative size of the change."""
        common = {
            "method": self.method,
            "version": self.version,
            "options": {"seed": self.seed},
            "weights": [base.weights_digest, tuned.weights_digest],
            "dtype": [base.dtype, tuned.dtype],
        }
        return [
            Work(f"layer {layer}", {**common, "layer": layer}, lambda layer=layer: self._unit(base, tuned, layer))  # type: ignore[misc]
            for layer in range(base.views.layers)
        ]

    def _unit(self, base: Model, tuned: Model, layer: int) -> Unit:
        base_FD, tuned_FD = base.views.down_FD(layer).double().cpu(), tuned.views.down_FD(layer).double().cpu()
        chance_FD = stats.permuted_change(base_FD, tuned_FD, self.seed + layer)
        size = float((tuned_FD - base_FD).norm() / base_FD.norm())
        shares = [
            stats.rotation_share(base_FD, tuned_FD),
            stats.rotation_share(base_FD, chance_FD),
            stats.rescaling_share(base_FD, tuned_FD),
            size,
        ]
        return Unit({"share_4": torch.tensor(shares, dtype=torch.float64)})
