"""Explanation of a pair: which share of the change of its feed-forward down-projections is a rotation.

docs/mathematics.md, 'Concept rotation'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from shiftbench import stats
from shiftbench.contracts.explainer import PairExplainer
from shiftbench.errors import InputError
from shiftbench.explain.feedforward import principal_components
from shiftbench.models import Model
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work


@dataclass(frozen=True)
class Rotation(PairExplainer):
    """For each layer, the shares of the weight change that a rotation and a rescaling of the base's rows explain.

    rank: how many components of the permuted change are kept, as many as of a model (Concepts.rank). seed: of the
    permutation of the change's entries. The share that a rotation explains of the permuted change is the share by
    chance, and the angles between base's components and those of base plus the permuted change are the angles by
    chance.
    """

    rank: int
    seed: int
    method: ClassVar[str] = "rotation"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise InputError(f"rotation: rank={self.rank} must be at least 1")

    def work(self, base: Model, tuned: Model) -> list[Work]:
        """A unit for each layer: share_4, float64. The change is that of the down-projection, from base to tuned.

        The four numbers: the share of the change that a rotation explains; the share of the permuted change that a
        rotation explains; the share of the change that a rescaling explains; the norm of the change over the norm of
        the base's weights.
        """
        common = {
            "method": self.method,
            "version": self.version,
            "options": {"rank": self.rank, "seed": self.seed},
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
        component_CD, _ = principal_components(permuted_FD.to(base.views.down_FD(layer).device), self.rank)
        share_4 = torch.tensor(shares, dtype=torch.float64)
        return Unit({"share_4": share_4, "permuted_component_CD": component_CD.float()})
