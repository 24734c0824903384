"""Null models whose weights changed at random, by as much as tuning changed them (docs/controls.md)."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from shiftbench.contracts.control import Control
from shiftbench.errors import InputError
from shiftbench.models import Model, ModelSource
from shiftbench.models.weights import Weights
from shiftbench.store.explanation import content_key

Drawing = Callable[[Tensor, torch.Generator], Tensor]  # (tuning's change of one tensor, draws) -> a random change


@dataclass(frozen=True)
class WeightNull(Control):
    """null weights = base + a random change of the same size as tuning's, tensor by tensor.

    kind: 'permuted', the values of each tensor's own change in random places; 'gaussian', normal numbers of the same
    Frobenius norm. draws: how many null models; 19 can place a score at p = 0.05 and no lower. seed: of the draws.
    """

    kind: str
    draws: int
    seed: int
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.kind not in DRAWINGS:
            raise InputError(f"control.kind={self.kind!r} is not known; choose from {', '.join(DRAWINGS)}")
        if not isinstance(self.draws, int) or self.draws < 1:
            raise InputError(f"control.draws={self.draws} must be a whole number, at least 1")

    def check(self, tuned: ModelSource) -> None:
        """Raise InputError for an adapter that is kept beside the weights: its change is in no weight of the model."""
        if tuned.adapter is not None and not tuned.merge_adapter:
            raise InputError(
                f"control={self.kind} draws changes of weights, and the adapter of {tuned.name} is kept beside them; "
                "use pair.tuned_model.merge_adapter=true"
            )

    def check_models(self, base: Model, tuned: Model) -> None:
        """Raise InputError where one loaded model has weights that the other lacks, as a kept adapter has."""
        before, after = (dict(model.module.named_parameters()).keys() for model in (base, tuned))
        if before != after:
            only = min(before ^ after)
            raise InputError(
                f"control={self.kind} draws changes of weights, and base and tuned do not have the same ones: {only!r} "
                f"is in one of them alone. {' '.join(tuned.notes) or 'Use control=none.'}"
            )

    @torch.no_grad()
    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """One null model after the other, all in the memory of one: the next overwrites the weights of the last."""
        module = copy.deepcopy(tuned.module)
        before, after = (dict(model.module.named_parameters()) for model in (base, tuned))
        for draw in range(self.draws):
            for name, parameter in module.named_parameters():
                parameter.copy_(self.drawn(name, before[name], after[name], draw))
            digest = self._digest(draw, base.weights_digest, tuned.weights_digest)
            yield Model(self._name(draw), module, tuned.tokenizer, None, tuned.dtype, digest)

    def weights(self, base: Weights, tuned: Weights) -> Iterator[Weights]:
        """One null model's weights after the other; each tensor is drawn when it is read, and not kept."""
        if base.names != tuned.names:
            only = min(set(base.names) ^ set(tuned.names))
            raise InputError(
                f"control={self.kind} draws changes of weights, and base and tuned do not have the same ones: {only!r} "
                "is in one of them alone. Use control=none."
            )
        for draw in range(self.draws):
            yield _DrawnWeights(self, base, tuned, draw)

    def drawn(self, name: str, base: Tensor, tuned: Tensor, draw: int) -> Tensor:
        """The null weight that stands in the place of `tuned`, in its dtype and on its device.

        name: the weight's; each weight has a seed of its own, so a draw depends on no other weight and on no device.
        Rows that tuning added at the end, for tokens of its own, stay as they are. Raises InputError where the shapes
        differ otherwise.
        """
        if tuned.shape[1:] != base.shape[1:] or len(tuned) < len(base):
            raise InputError(f"control={self.kind}: weight {name!r} has other shapes in base and in tuned")
        before = base.to(tuned.device, torch.float64)
        change = tuned[: len(base)].double() - before
        text = f"{self.seed} {draw} {name}".encode()
        draws = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1)
        null = before + DRAWINGS[self.kind](change, draws)
        return torch.cat([null.to(tuned.dtype), tuned[len(base) :]])

    def _name(self, draw: int) -> str:
        return f"{self.kind} {draw + 1}"

    def _digest(self, draw: int, base: str, tuned: str) -> str:
        """What identifies the weights of a draw, without reading them."""
        drawn_by = {"control": self.kind, "version": self.version, "seed": self.seed, "draw": draw}
        return content_key({**drawn_by, "base": base, "tuned": tuned})


class _DrawnWeights(Weights):
    """The weights of one draw. Nothing but the tensor that is asked for is in memory."""

    def __init__(self, null: WeightNull, base: Weights, tuned: Weights, draw: int) -> None:
        self.name, self.names = null._name(draw), tuned.names
        self._null, self._base, self._tuned, self._draw = null, base, tuned, draw

    @property
    def digest(self) -> str:
        return self._null._digest(self._draw, self._base.digest, self._tuned.digest)

    def tensor(self, name: str) -> Tensor:
        base, tuned = self._base.tensor(name), self._tuned.tensor(name)
        if not tuned.is_floating_point():
            return tuned  # a table of integers is no weight that a change could be drawn for
        return self._null.drawn(name, base, tuned, self._draw)


def _permuted(change: Tensor, draws: torch.Generator) -> Tensor:
    order = torch.randperm(change.numel(), generator=draws).to(change.device)
    return change.flatten()[order].view_as(change)


def _gaussian(change: Tensor, draws: torch.Generator) -> Tensor:
    noise = torch.randn(change.shape, generator=draws, dtype=torch.float64).to(change.device)
    size = noise.norm()
    return noise * (change.norm() / size) if size > 0 else noise


DRAWINGS: dict[str, Drawing] = {"permuted": _permuted, "gaussian": _gaussian}
