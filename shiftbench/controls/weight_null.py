"""Null models whose weights differ from base by a random change of the size of tuning's (docs/controls.md)."""

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

# Called with (tuning's change of one tensor, random generator), it returns a random change of the same shape and
# Frobenius norm.
Drawing = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class WeightNull(Control):
    """A control whose null models are base plus, in each tensor, a random change as large as tuning's change.

    Large is measured by the Frobenius norm. kind: 'permuted' (the values of tuning's change of the tensor, in random
    places) or 'gaussian' (normally distributed numbers). draws: the number of null models; with 19 the smallest rank p
    that a score can have is 0.05. seed: the seed of the random changes.
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
        """Raise InputError for an adapter that is not merged: its change is then in none of the model's weights."""
        if tuned.adapter is not None and not tuned.merge_adapter:
            raise InputError(
                f"control={self.kind} draws random changes of weights, and the adapter of {tuned.name} is not merged "
                "into the weights; use pair.tuned_model.merge_adapter=true"
            )

    def check_models(self, base: Model, tuned: Model) -> None:
        """Raise InputError where one loaded model has a parameter that the other lacks.

        An adapter that is not merged into the weights is such a case.
        """
        before, after = (set(dict(model.module.named_parameters())) for model in (base, tuned))
        self._check_same_names(before, after, " ".join(tuned.notes))

    @torch.no_grad()
    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """Yields the null models, one for each draw. They have tuned's tokenizer and dtype.

        All share one module, a copy of tuned's: each draw overwrites the parameters of the draw before it. So finish
        with one model before taking the next.
        """
        module = copy.deepcopy(tuned.module)
        before, after = (dict(model.module.named_parameters()) for model in (base, tuned))
        for draw in range(self.draws):
            for name, parameter in module.named_parameters():
                parameter.copy_(self.drawn(name, before[name], after[name], draw))
            digest = self._digest(draw, base.weights_digest, tuned.weights_digest)
            yield Model(self._name(draw), module, tuned.tokenizer, None, tuned.dtype, digest)

    def weights(self, base: Weights, tuned: Weights) -> Iterator[Weights]:
        """Yields the weights of the null models, one for each draw. A tensor is drawn when it is read, and is not kept.

        Tensors of other types than floating point are returned as in tuned. Raises InputError where base and tuned have
        weights of different names.
        """
        self._check_same_names(set(base.names), set(tuned.names))
        for draw in range(self.draws):
            yield _DrawnWeights(self, base, tuned, draw)

    def drawn(self, name: str, base: Tensor, tuned: Tensor, draw: int) -> Tensor:
        """The null weight in place of one tensor: base plus a random change, in the dtype and on the device of `tuned`.

        base, tuned: the tensor in both models. name: its name. draw: the number of the null model, from 0. The random
        numbers depend on `seed`, `draw`, `name` and the tensor's shape alone, and not on other weights or the device.
        Rows that tuning added at the end, for new tokens, stay as in `tuned`. Raises InputError where the shapes differ
        in any other way.
        """
        if tuned.shape[1:] != base.shape[1:] or len(tuned) < len(base):
            raise InputError(
                f"control={self.kind}: weight {name!r} has shape {tuple(base.shape)} in base and {tuple(tuned.shape)} "
                "in tuned; use control=none"
            )
        before = base.to(tuned.device, torch.float64)
        change = tuned[: len(base)].double() - before
        text = f"{self.seed} {draw} {name}".encode()
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1)
        null = before + DRAWINGS[self.kind](change, generator)
        return torch.cat([null.to(tuned.dtype), tuned[len(base) :]])

    def _check_same_names(self, base: set[str], tuned: set[str], reason: str = "") -> None:
        """Raise InputError where one model has a weight that the other lacks.

        base, tuned: the names of the models' weights. reason: a sentence for the message that says why they differ;
        empty where that is not known.
        """
        if base != tuned:
            raise InputError(
                f"control={self.kind} draws random changes of weights, and base and tuned have different weights: "
                f"only one of them has {min(base ^ tuned)!r}. {reason or 'Use control=none.'}"
            )

    def _name(self, draw: int) -> str:
        return f"{self.kind} {draw + 1}"

    def _digest(self, draw: int, base: str, tuned: str) -> str:
        """The digest that identifies the weights of draw `draw`, computed without drawing them.

        base, tuned: the digests of the weights of base and tuned.
        """
        drawn_by = {"control": self.kind, "version": self.version, "seed": self.seed, "draw": draw}
        return content_key({**drawn_by, "base": base, "tuned": tuned})


class _DrawnWeights(Weights):
    """The weights of one null model. A tensor is drawn each time it is read and not kept."""

    def __init__(self, null: WeightNull, base: Weights, tuned: Weights, draw: int) -> None:
        self.name, self.names = null._name(draw), tuned.names
        self._null, self._base, self._tuned, self._draw = null, base, tuned, draw

    @property
    def digest(self) -> str:
        return self._null._digest(self._draw, self._base.digest, self._tuned.digest)

    def tensor(self, name: str) -> Tensor:
        base, tuned = self._base.tensor(name), self._tuned.tensor(name)
        if not tuned.is_floating_point():
            return tuned  # an integer table is not a trained weight: it stays as it is
        return self._null.drawn(name, base, tuned, self._draw)


def _permuted(change: Tensor, generator: torch.Generator) -> Tensor:
    order = torch.randperm(change.numel(), generator=generator).to(change.device)
    return change.flatten()[order].view_as(change)


def _gaussian(change: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(change.shape, generator=generator, dtype=torch.float64).to(change.device)
    size = noise.norm()
    return noise * (change.norm() / size) if size > 0 else noise


DRAWINGS: dict[str, Drawing] = {"permuted": _permuted, "gaussian": _gaussian}
