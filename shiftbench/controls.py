"""Null models: what the same findings say of changes that nobody tuned for anything (docs/controls.md).

A control gives models that stand in the tuned one's place; the pair's prompts and responses stay as they are.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from shiftbench.errors import InputError
from shiftbench.explanation import content_key
from shiftbench.models import Model, ModelSource, load

Drawing = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class WeightNull:
    """tuned' = base + a random change of the same size as tuning's, tensor by tensor.

    kind: 'permuted', each tensor's own changes in random places; 'gaussian', normal numbers of the same Frobenius norm.
    draws: how many models; 19 can place a value at p = 0.05 and no lower.
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
        """Refuse, by InputError, a pair whose change is not in the tensors of one architecture."""
        if tuned.adapter is not None and not tuned.merge_adapter:
            raise InputError(
                f"control={self.kind} draws changes of weights, and the adapter of {tuned.name} is kept beside them; "
                "use pair.tuned_model.merge_adapter=true"
            )

    def check_models(self, base: Model, tuned: Model) -> None:
        """Refuse, by InputError, loaded models of which one has weights that the other lacks, as of a kept adapter."""
        before, after = (dict(model.module.named_parameters()).keys() for model in (base, tuned))
        if before != after:
            only = min(before ^ after)
            raise InputError(
                f"control={self.kind} draws changes of weights, and base and tuned have not the same ones: {only!r} is "
                f"in one of them. {' '.join(tuned.notes) or 'Use control=none.'}"
            )

    @torch.no_grad()
    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """One model after the other, all in the memory of one; each is done with when the next is asked for."""
        module = copy.deepcopy(tuned.module)
        before, after = (dict(model.module.named_parameters()) for model in (base, tuned))
        for draw in range(self.draws):
            for name, parameter in module.named_parameters():
                parameter.copy_(self._drawn(name, before[name], after[name], draw))
            made = {"control": self.kind, "version": self.version, "seed": self.seed, "draw": draw}
            digest = content_key({**made, "base": base.weights_digest, "tuned": tuned.weights_digest})
            yield Model(f"{self.kind} {draw + 1}", module, tuned.tokenizer, None, tuned.dtype, digest)

    def _drawn(self, name: str, base: Tensor, tuned: Tensor, draw: int) -> Tensor:
        """Rows that tuning added, for tokens of its own, stay as they are."""
        if tuned.shape[1:] != base.shape[1:] or len(tuned) < len(base):
            raise InputError(f"control={self.kind}: weight {name!r} has other shapes in base and in tuned")
        before = base.to(tuned.device, torch.float64)
        change = tuned[: len(base)].double() - before
        # A seed of the tensor's own: what is drawn for it depends on no other tensor, and on no device.
        text = f"{self.seed} {draw} {name}".encode()
        draws = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1)
        drawn = before + DRAWINGS[self.kind](change, draws)
        return torch.cat([drawn.to(tuned.dtype), tuned[len(base) :]])


@dataclass(frozen=True)
class ModelNull:
    """A model that stands in the tuned one's place: base trained on as much plain text, for example.

    model: how it is loaded, with its path filled in (conf/model).
    """

    model: Callable[..., ModelSource]
    path: str
    kind: ClassVar[str] = "continued"
    draws: ClassVar[int] = 1
    loaded: list[Model] = field(default_factory=list, init=False, compare=False, repr=False)

    def check(self, tuned: ModelSource) -> None:
        """Refuse, by InputError, a model that cannot be loaded."""
        from shiftbench.models import check

        check(self.model(path=self.path))

    def models(self, base: Model, tuned: Model) -> Iterator[Model]:
        """That model."""
        yield load(self.model(path=self.path))


def none() -> None:
    """No control."""


def _permuted(change: Tensor, draws: torch.Generator) -> Tensor:
    order = torch.randperm(change.numel(), generator=draws).to(change.device)
    return change.flatten()[order].view_as(change)


def _gaussian(change: Tensor, draws: torch.Generator) -> Tensor:
    noise = torch.randn(change.shape, generator=draws, dtype=torch.float64).to(change.device)
    size = noise.norm()
    return noise * (change.norm() / size) if size > 0 else noise


DRAWINGS: dict[str, Drawing] = {"permuted": _permuted, "gaussian": _gaussian}
