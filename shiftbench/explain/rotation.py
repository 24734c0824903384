"""Explanation of a pair: which share of the change of its feed-forward down-projections is a rotation.

docs/mathematics.md, 'Concept rotation'.
"""

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
    """For each layer, the shares of the weight change that a rotation and a rescaling of the base's rows explain.

    The weights are those of the feed-forward down-projection. The share that a rotation explains is also computed for a
    change whose entries are in random places; it is the share by chance. seed: of these places.
    """

    seed: int
    method: ClassVar[str] = "rotation"
    version: ClassVar[int] = 1

    def work(self, base: Model, tuned: Model) -> list[Work]:
        """A unit for each layer: share_4, float64. The change is that of the down-projection, from base to tuned.

        The four numbers: the share of the change that a rotation explains; the share of the permuted change that a
        rotation explains; the share of the change that a rescaling explains; the norm of the change over the norm of
        the base's weights.
        """
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
        permuted_FD = stats.permuted_change(base_FD, tuned_FD, self.seed + layer)
        relative_change = float((tuned_FD - base_FD).norm() / base_FD.norm())
        shares = [
            stats.rotation_share(base_FD, tuned_FD),
            stats.rotation_share(base_FD, permuted_FD),
            stats.rescaling_share(base_FD, tuned_FD),
            relative_change,
        ]
        return Unit({"share_4": torch.tensor(shares, dtype=torch.float64)})
