"""WeightViews: the weight matrices of a model, oriented so that a plain `@` multiplies them correctly."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from shiftbench.errors import InputError
from shiftbench.models.block import Linear, Transformer


class WeightViews(ABC):
    """Weights of one model, as the explainers of attention heads and feed-forward networks need them.

    The matrices that the methods return are detached, on the device of the stored weight, in float32 (float64 where the
    stored weight is float64), and contain what a kept adapter adds to a weight. A layer's number counts from 0. layers,
    heads (query heads of a layer) and width (D, of the hidden state) are counts. read: called with a submodule, it
    returns the weight that the submodule applies. The methods that return a matrix get weights from it alone;
    `transformer` does not use it. A null model's `read` draws the weight.
    """

    gated: bool = False  # whether the feed-forward networks multiply an activated gate with an up-projection

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module
        self.read: Callable[[nn.Module], Tensor] = applied_weight
        self.layers: int = module.config.num_hidden_layers
        self.heads: int = module.config.num_attention_heads
        self.width: int = module.config.hidden_size

    def embedding_in_VD(self) -> Tensor:
        """Input embeddings as stored, one row a token id.

        Some models multiply the embeddings by a factor before the first layer; the factor is left out.
        """
        return as_float(self.read(self.module.get_input_embeddings()))

    def embedding_out_VD(self) -> Tensor:
        """Output embeddings, one row a token id; the input embeddings where the two are tied."""
        return as_float(self.read(self.module.get_output_embeddings()))

    @abstractmethod
    def query_HDE(self, layer: int) -> Tensor:
        """Query weights of each head of a layer, oriented so that embedding_VD @ query_HDE[h] is [V, E].

        They are multiplied by the gain of the norm before attention where the architecture has one; the class of each
        architecture says what is left out.
        """

    @abstractmethod
    def key_HDE(self, layer: int) -> Tensor:
        """Key weights that belong to each query head of a layer, oriented and multiplied by the gain as in query_HDE.

        Query heads that share a key head have equal weights.
        """

    @abstractmethod
    def down_FD(self, layer: int) -> Tensor:
        """Down-projection of a layer's feed-forward network, one row a neuron."""

    def transformer(self) -> Transformer | None:
        """The model as data for the engine, with views of its own weights; None where its class does not describe it.

        Raises NotPlainLayer as `linear` does.
        """
        return None

    def weight(self, name: str, *shape: int) -> Tensor:
        """The weight of the submodule `name`, float64 where the module's is, else float32.

        The change by an adapter that is kept beside the weights is added.

        shape: the shape that it must have. Raises InputError where it is missing or has another shape.
        """
        try:
            found = as_float(self.read(self.module.get_submodule(name)))
        except AttributeError:
            raise InputError(
                f"{type(self.module).__name__}: no weight '{name}.weight'; is the pair's architecture right?"
            ) from None
        if found.shape != shape:
            raise InputError(
                f"{type(self.module).__name__}: weight '{name}.weight' should be {shape}, is {tuple(found.shape)}"
            )
        return found


def views_of(module: PreTrainedModel) -> WeightViews:
    """Weight views of a module; InputError where its architecture has none."""
    check_architecture(module.config.model_type)
    return architectures()[module.config.model_type](module)


def check_architecture(model_type: str) -> None:
    """Raise InputError where no file in this folder describes an architecture. The message says how to add it."""
    known = architectures()
    if model_type not in known:
        raise InputError(
            f"architecture {model_type!r} is not known; known are {', '.join(sorted(known))}. To add it, write "
            f"shiftbench/models/{model_type}.py with its query_HDE, key_HDE and down_FD and "
            f"ARCHITECTURES = {{{model_type!r}: ...}}, and a pair in conf/pair/"
        )


@cache
def architectures() -> dict[str, Callable[[PreTrainedModel], WeightViews]]:
    """model_type -> constructor of its weight views: the ARCHITECTURES of all files in this folder."""
    package = importlib.import_module(__package__)
    files = [importlib.import_module(f"{__package__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    return {kind: make for file in files for kind, make in getattr(file, "ARCHITECTURES", {}).items()}


def applied_weight(module: nn.Module) -> Tensor:
    """The weight that a submodule applies.

    With a kept PEFT adapter it is the base's weight with the adapter merged into it, or the trained copy's weight where
    the adapter replaces the whole submodule. The submodule itself is not changed.
    """
    part: Any = module  # PEFT's classes, which need not be installed, have attributes that nn.Module does not declare
    if hasattr(part, "modules_to_save"):  # a trained copy of the submodule is used instead of the base's
        part = part.modules_to_save[part.active_adapter]
    elif hasattr(part, "get_base_layer"):  # the merge is done in a copy, so that the module keeps its own weight
        merged = copy.deepcopy(part)
        merged.merge()
        part = merged.get_base_layer()
    weight: Tensor = part.weight
    return weight


class NotPlainLayer(Exception):
    """A linear submodule may do more than multiply by its weight and add its bias.

    It has a kept adapter or a forward hook, is quantised or offloaded, or is of another class than the two that
    `linear` knows. The exception's text names the submodule's type.
    """


def linear(module: nn.Module) -> Linear:
    """A linear submodule's weight, oriented inputs x outputs, and its bias, detached and not copied.

    Raises NotPlainLayer where the submodule is neither nn.Linear nor Conv1D, has a hook before or after its forward
    function, or is offloaded.
    """
    hooks = module._forward_hooks or module._forward_pre_hooks
    if type(module) not in (nn.Linear, Conv1D) or hooks or is_offloaded(module):
        raise NotPlainLayer(type(module).__name__)
    part: Any = module  # typed Any, because transformers leaves the weight and bias of Conv1D untyped
    weight: Tensor = part.weight.detach()
    bias: Tensor | None = part.bias
    return Linear(weight.T if type(module) is nn.Linear else weight, None if bias is None else bias.detach())


def is_offloaded(module: nn.Module) -> bool:
    """Whether accelerate keeps a module's weights on another device or on disk and loads them for each call."""
    return bool(getattr(getattr(module, "_hf_hook", None), "offload", False))


def as_float(weight: Tensor) -> Tensor:
    """The weight, detached, in float32; float64 is kept."""
    return weight.detach().to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
