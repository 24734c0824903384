"""Explanation of a pair: which share of the change of its feed-forward down-projections is a rotation.

docs/mathematics.md, 'Concept rotation'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from shiftbench import stats
from shiftbench.contracts.explainer import PairExplainer
from shiftbench.explain.feedforward import principal_components
from shiftbench.models import Model
from shiftbench.readers.numbers import check_whole
from shiftbench.store.explanation import Unit
from shiftbench.store.work import Work


@dataclass(frozen=True)
class Rotation(PairExplainer):
    """For each layer, the share of the weight change that a rotation of base's rows explains, and that of a rescaling.

    The weights are those of the feed-forward down-projection. A rescaling multiplies all of them by one number. A
    random change of the same size (stats.random_change) shows what is to be expected by chance: the share that a
    rotation explains of it, and how far the components of base plus the random change are turned from base's. Each
    layer has one such draw.

    rank: how many components of base plus the random change are kept; half of the model's width, rounded down, where
    that is less. It should equal Concepts.rank; InputError where it is less than 1. seed: of the draws; layer i, from
    0, uses seed + i.
    """

    rank: int
    seed: int
    method: ClassVar[str] = "rotation"
    version: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_whole("rotation: rank", self.rank, 1)
        check_whole("rotation: seed", self.seed, None)

    def work(self, base: Model, tuned: Model) -> list[Work]:
        """A unit for each layer: share_4, float64, and chance_component_CD, float32.

        The four numbers: the share of the change that a rotation explains; the share of a random change that a rotation
        explains; the share of the change that a rescaling explains; the Frobenius norm of the change over that of the
        base's weights. All four are 0 where nothing changed. The change is that of the down-projection, from base to
        tuned. chance_component_CD: the principal components of base plus the random change.
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
        random_FD = stats.random_change(base_FD, tuned_FD, self.seed + layer)
        relative_change = float((tuned_FD - base_FD).norm() / base_FD.norm())
        shares = [
            stats.rotation_share(base_FD, tuned_FD),
            stats.rotation_share(base_FD, random_FD),
            stats.rescaling_share(base_FD, tuned_FD),
            relative_change,
        ]
        component_CD, _ = principal_components(random_FD.to(base.views.down_FD(layer).device), self.rank)
        share_4 = torch.tensor(shares, dtype=torch.float64)
        return Unit({"share_4": share_4, "chance_component_CD": component_CD.float()})
