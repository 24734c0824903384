"""Null models whose weights differ from base by a random change of the size of tuning's (docs/controls.md)."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from shiftbench.contracts.control import Control
from shiftbench.controls.drawings import DRAWINGS
from shiftbench.errors import InputError
from shiftbench.models import Model, ModelSource
from shiftbench.models.views import applied_weight, views_of
from shiftbench.models.weights import Weights
from shiftbench.store.explanation import content_key

AUTO = "auto"
SCOPES = ("weights", "all")
# The largest rounding error that a drawing may assume in a tensor's change, as a share of the change's Frobenius norm.
# The rounding errors of weights in half precision are usually larger.
LARGEST_ROUNDING = 1e-3


@dataclass(frozen=True)
class WeightNull(Control):
    """A control whose null models are base plus, in each tensor, a random change as large as tuning's change.

    Size is measured by the Frobenius norm. A tensor that tuning did not change is not changed either. kind: 'permuted'
    (the values of tuning's change of the tensor, in random places), 'gaussian' (normally distributed numbers),
    'rotated' (a change with the singular values of tuning's, in random directions), or 'auto': rotated where the tuned
    model comes from an adapter, whose change has a low rank that permuting would not keep, and permuted otherwise.
    draws: the number of null models; with fewer than 39 no claim is supported or opposite. seed: of the random changes.
    findings: 'weights' (only claims that rest on weights alone are compared with null models) or 'all'. automatic:
    whether `kind` took the place of 'auto'; only `for_tuned` passes True.
    """

    kind: str
    draws: int
    seed: int
    findings: str
    automatic: bool = False
    version: ClassVar[int] = 1
    keeps_unchanged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.kind not in (AUTO, *DRAWINGS):
            raise InputError(f"control.kind={self.kind!r} is not known; choose from {', '.join((AUTO, *DRAWINGS))}")
        if not isinstance(self.draws, int) or self.draws < 1:
            raise InputError(f"control.draws={self.draws} must be a whole number, at least 1")
        if self.findings not in SCOPES:
            raise InputError(f"control.findings={self.findings!r} is not known; choose from {', '.join(SCOPES)}")

    @property
    def weights_only(self) -> bool:
        """Whether only claims that rest on weights alone are compared with null models."""
        return self.findings == "weights"

    @property
    def name(self) -> str:
        """'weights' where `weights_only` is True; else 'random' where `automatic` is True; else `kind`.

        So an adapter and a fully tuned model that were scored with control=random stand on one leaderboard.
        """
        return "random" if self.automatic and not self.weights_only else super().name

    def for_tuned(self, tuned: ModelSource) -> WeightNull:
        """This control, with the kind 'auto' replaced by the kind that it stands for with this tuned model."""
        if self.kind != AUTO:
            return self
        return replace(self, kind="rotated" if tuned.adapter is not None else "permuted", automatic=True)

    def check(self, tuned: ModelSource) -> None:
        """Raise InputError for an adapter that is not merged: its change is then in none of the model's weights."""
        if tuned.adapter is not None and not tuned.merge_adapter:
            raise InputError(
                f"control={self.kind} draws random changes of weights, and the adapter of {tuned.name} is not merged "
                "into the weights; use pair.tuned_model.merge_adapter=true"
            )

    def check_models(self, base: Model, tuned: Model) -> None:
        """Raise InputError where one loaded model has a parameter of a name that the other lacks.

        An adapter that is not merged into the weights is such a case.
        """
        before, after = (set(dict(model.module.named_parameters())) for model in (base, tuned))
        self._check_same_names(before, after, " ".join(tuned.notes))

    def digest(self, base: Model, tuned: Model, draw: int) -> str:
        """sha256 (hex) of kind, version, seed, draw, and the digests of the weights of base and tuned."""
        return self._digest(draw, base.weights_digest, tuned.weights_digest)

    def models(self, base: Model, tuned: Model) -> Callable[[int], Model]:
        """A function that returns the null model of a draw. It has tuned's tokenizer and dtype.

        All share one module, a copy of tuned's that is made for the first draw: each draw overwrites the parameters of
        the draw before it. So finish with one model before taking the next.
        """
        return _WholeModels(self, base, tuned).draw

    def views(self, base: Model, tuned: Model, draw: int) -> Model:
        """The null model of a draw for methods that read Model.views alone. Its module is tuned's.

        A weight is drawn when it is read, from the weights that base and tuned apply, a kept adapter's product
        included. Reading raises InputError where base lacks the weight, and where `drawn` does.
        """
        views = views_of(tuned.module)
        views.read = _DrawnParts(self, base.module, tuned.module, draw)
        return Model(
            self.name_of(draw),
            tuned.module,
            tuned.tokenizer,
            None,
            tuned.dtype,
            self.digest(base, tuned, draw),
            known_tokenizer_digest=tuned.tokenizer_digest,
            known_views=views,
        )

    def weights(self, base: Weights, tuned: Weights, draw: int) -> Weights:
        """The weights of the null model of a draw. A tensor is drawn when it is read, and is not kept.

        Tensors of other types than floating point are returned as in tuned. Raises InputError where base and tuned have
        weights of different names.
        """
        self._check_same_names(set(base.names), set(tuned.names))
        return _DrawnWeights(self, base, tuned, draw)

    def drawn(self, name: str, base: Tensor, tuned: Tensor, draw: int) -> Tensor:
        """The null weight in place of one tensor: base plus a random change, in the dtype and on the device of `tuned`.

        base, tuned: the tensor in both models. name: its name. draw: the number of the null model, from 0. The random
        generator's seed depends on `self.seed`, `draw` and `name` alone, so that the order in which weights are drawn
        does not matter. Where tuning changed nothing, `tuned` is returned. Rows that tuning added at the end, for new
        tokens, stay as in `tuned`. Raises InputError where the shapes differ in any other way.
        """
        if tuned.shape[1:] != base.shape[1:] or len(tuned) < len(base):
            raise InputError(
                f"control={self.kind}: weight {name!r} has shape {tuple(base.shape)} in base and {tuple(tuned.shape)} "
                "in tuned; use control=none"
            )
        shared = tuned[: len(base)]
        before = base.to(tuned.device, torch.float64)
        change = shared.double() - before
        size = float(change.norm())
        if size == 0:
            return tuned
        text = f"{self.seed} {draw} {name}".encode()
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1)
        rounding = min(torch.finfo(tuned.dtype).eps * float(shared.double().norm()), LARGEST_ROUNDING * size)
        null = before + DRAWINGS[self.kind](change, generator, rounding)
        return torch.cat([null.to(tuned.dtype), tuned[len(base) :]])

    def name_of(self, draw: int) -> str:
        """The name of the null model of a draw: the kind, and its number from 1."""
        return f"{self.kind} {draw + 1}"

    def _check_same_names(self, base: set[str], tuned: set[str], reason: str = "") -> None:
        """Raise InputError where one model has a weight that the other lacks.

        base, tuned: the names of the models' weights. reason: the end of the message, which says why they differ; empty
        where that is not known: the message then ends with advice to use control=none.
        """
        if base != tuned:
            raise InputError(
                f"control={self.kind} draws random changes of weights, and base and tuned have different weights: "
                f"only one of them has {min(base ^ tuned)!r}. {reason or 'Use control=none.'}"
            )

    def _digest(self, draw: int, base: str, tuned: str) -> str:
        """The digest that identifies the weights of draw `draw`, computed without drawing them.

        base, tuned: the digests of the weights of base and tuned.
        """
        drawn_by = {"control": self.kind, "version": self.version, "seed": self.seed, "draw": draw}
        return content_key({**drawn_by, "base": base, "tuned": tuned})


class _WholeModels:
    """The null models of one pair, loaded: one module, whose parameters each draw overwrites."""

    def __init__(self, null: WeightNull, base: Model, tuned: Model) -> None:
        self._null, self._base, self._tuned = null, base, tuned

    @cached_property
    def _module(self) -> PreTrainedModel:
        return copy.deepcopy(self._tuned.module)

    @torch.no_grad()
    def draw(self, draw: int) -> Model:
        null, base, tuned = self._null, self._base, self._tuned
        before, after = (dict(model.module.named_parameters()) for model in (base, tuned))
        for name, parameter in self._module.named_parameters():
            parameter.copy_(null.drawn(name, before[name], after[name], draw))
        digest = null.digest(base, tuned, draw)
        return Model(null.name_of(draw), self._module, tuned.tokenizer, None, tuned.dtype, digest)


class _DrawnParts:
    """Called with a part of tuned's module, it returns the null model's weight in place of the one that it applies."""

    def __init__(self, null: WeightNull, base: PreTrainedModel, tuned: PreTrainedModel, draw: int) -> None:
        self._null, self._base, self._draw = null, base, draw
        self._names = {id(part): name for name, part in tuned.named_modules()}
        # Where both models tie output to input embeddings, these two are drawn under one name, and so stay equal.
        ends = [(model.get_input_embeddings(), model.get_output_embeddings()) for model in (base, tuned)]
        if all(getattr(out, "weight", None) is entry.weight for entry, out in ends):
            entry, out = ends[1]
            self._names[id(out)] = self._names[id(entry)]

    def __call__(self, part: nn.Module) -> Tensor:
        name = self._names[id(part)]
        try:
            before = applied_weight(self._base.get_submodule(name))
        except AttributeError:
            raise InputError(f"control={self._null.kind}: the base model has no weight '{name}.weight'") from None
        return self._null.drawn(f"{name}.weight", before.detach(), applied_weight(part).detach(), self._draw)


class _DrawnWeights(Weights):
    """The weights of one null model. A tensor is drawn each time it is read and not kept."""

    def __init__(self, null: WeightNull, base: Weights, tuned: Weights, draw: int) -> None:
        self.name, self.names = null.name_of(draw), tuned.names
        self._null, self._base, self._tuned, self._draw = null, base, tuned, draw

    @property
    def digest(self) -> str:
        return self._null._digest(self._draw, self._base.digest, self._tuned.digest)

    def tensor(self, name: str) -> Tensor:
        base, tuned = self._base.tensor(name), self._tuned.tensor(name)
        if not tuned.is_floating_point():
            return tuned  # an integer table is not a trained weight: it stays as it is
        return self._null.drawn(name, base, tuned, self._draw)
