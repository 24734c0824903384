"""Where a model's weights are, turned so that a plain `@` is right."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from shiftbench.errors import InputError
from shiftbench.models.block import Linear, Transformer


class WeightViews(ABC):
    """Weights of one model as the explanations of attention heads and feed-forward networks want them.

    All are detached, on the module's device, float32 (float64 where the module is float64), with the part of a kept
    adapter added in. layers, heads (query heads), width (D) are counts.
    """

    gated: bool = False  # whether the feed-forward networks multiply an activated gate with an up-projection

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module
        self.layers: int = module.config.num_hidden_layers
        self.heads: int = module.config.num_attention_heads
        self.width: int = module.config.hidden_size

    def embedding_in_VD(self) -> Tensor:
        """Input embeddings, a row a token id, as stored: a factor that the model puts on them later is left out."""
        return as_float(applied_weight(self.module.get_input_embeddings()))

    def embedding_out_VD(self) -> Tensor:
        """Output embeddings, a row a token id; where they are tied these are the input embeddings."""
        return as_float(applied_weight(self.module.get_output_embeddings()))

    @abstractmethod
    def query_HDE(self, layer: int) -> Tensor:
        """Query weights of each head, embedding_VD @ query_HDE[h] = activation_VE; a family says what is folded in."""

    @abstractmethod
    def key_HDE(self, layer: int) -> Tensor:
        """Key weights of each query head; heads that share a key have equal ones."""

    @abstractmethod
    def down_FD(self, layer: int) -> Tensor:
        """Down-projection of a layer's feed-forward network, one row a neuron."""

    def transformer(self) -> Transformer | None:
        """The model as data for the engine, views of its own weights; None where nobody has written it down.

        Raises NotPlainLayer where a submodule is not the plain one that its architecture was made with.
        """
        return None

    def weight(self, name: str, *shape: int) -> Tensor:
        """The weight of the submodule `name`; InputError where there is none or it has another shape."""
        try:
            found = as_float(applied_weight(self.module.get_submodule(name)))
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
    """Refuse an architecture whose weights nobody has said the place of, and say how to add it."""
    known = architectures()
    if model_type not in known:
        raise InputError(
            f"architecture {model_type!r} is not known; known are {', '.join(sorted(known))}. To add it, write "
            f"shiftbench/models/{model_type}.py with its query_HDE, key_HDE and down_FD and "
            f"ARCHITECTURES = {{{model_type!r}: ...}}, and a pair in conf/pair/"
        )


@cache
def architectures() -> dict[str, Callable[[PreTrainedModel], WeightViews]]:
    """model_type -> what makes its weight views: the ARCHITECTURES of every file beside this one that has them."""
    package = importlib.import_module(__package__)
    files = [importlib.import_module(f"{__package__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    return {kind: make for file in files for kind, make in getattr(file, "ARCHITECTURES", {}).items()}


def applied_weight(module: nn.Module) -> Tensor:
    """The weight that a submodule applies. One that carries a kept PEFT adapter stores the base's: merge a copy."""
    if hasattr(module, "modules_to_save"):  # PEFT: a trained copy stands beside the base's module
        return module.modules_to_save[module.active_adapter].weight  # type: ignore[index, union-attr]
    if hasattr(module, "get_base_layer"):
        merged = copy.deepcopy(module)
        merged.merge()  # type: ignore[operator]
        return merged.get_base_layer().weight  # type: ignore[operator]
    return module.weight  # type: ignore[return-value]


class NotPlainLayer(Exception):
    """A submodule does more than multiply by its weight: a kept adapter, a quantised or an offloaded layer."""


def linear(module: nn.Module) -> Linear:
    """A linear submodule's weight, input first, and bias; raises NotPlainLayer."""
    if type(module) not in (nn.Linear, Conv1D) or getattr(module, "_forward_hooks", None) or is_offloaded(module):
        raise NotPlainLayer(type(module).__name__)
    weight: Tensor = module.weight.detach()  # type: ignore[operator, union-attr]
    bias: Tensor | None = module.bias  # type: ignore[assignment]
    return Linear(weight.T if type(module) is nn.Linear else weight, None if bias is None else bias.detach())


def is_offloaded(module: nn.Module) -> bool:
    """Whether accelerate brings the weights in for each call."""
    return bool(getattr(getattr(module, "_hf_hook", None), "offload", False))


def as_float(weight: Tensor) -> Tensor:
    """Detached, float32; float64 stays."""
    return weight.detach().to(torch.float64 if weight.dtype == torch.float64 else torch.float32)
