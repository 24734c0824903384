"""Weights of the Llama family. Its members differ in the norm in front of attention, which is data here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from shiftbench.models.views import WeightViews


@dataclass(frozen=True)
class Norm:
    """The norm that feeds a layer's attention: its name in the layer, and what its gain adds to the stored weight."""

    name: str
    offset: float = 0.0


class LlamaViews(WeightViews):
    """norm: None where the architecture normalises after the projection, so that there is no gain to fold."""

    def __init__(self, module: PreTrainedModel, norm: Norm | None) -> None:
        super().__init__(module)
        config = module.config
        self.norm = norm
        self.key_heads: int = config.num_key_value_heads
        self.head_width: int = getattr(config, "head_dim", None) or self.width // self.heads

    def query_HDE(self, layer: int) -> Tensor:
        """Query weights with the gain of the layer's input norm folded in; biases and query norms are left out.

        OLMo-2 has no input norm: nothing is folded. Gemma-2 stores its gain less 1: 1 + weight is folded.
        """
        return self._projection_HDE(layer, "q_proj", self.heads)

    def key_HDE(self, layer: int) -> Tensor:
        """Key weights, folded as query_HDE is, repeated for the query heads that share them; key norms are left out."""
        key_HDE = self._projection_HDE(layer, "k_proj", self.key_heads)
        return key_HDE.repeat_interleave(self.heads // self.key_heads, dim=0)

    def down_FD(self, layer: int) -> Tensor:
        """Rows of the down-projection, for gated activations; a norm after it (Gemma-2, OLMo-2) is left out."""
        return self.weight(f"model.layers.{layer}.mlp.down_proj", self.width, self.module.config.intermediate_size).T

    def _projection_HDE(self, layer: int, name: str, heads: int) -> Tensor:
        place = f"model.layers.{layer}"
        weight = self.weight(f"{place}.self_attn.{name}", heads * self.head_width, self.width)
        if self.norm is not None:
            weight = weight * (self.weight(f"{place}.{self.norm.name}", self.width) + self.norm.offset)
        return weight.view(heads, self.head_width, self.width).transpose(1, 2)


_PLAIN = partial(LlamaViews, norm=Norm("input_layernorm"))
ARCHITECTURES = {
    "llama": _PLAIN,  # SmolLM and Vicuna too
    "mistral": _PLAIN,
    "qwen2": _PLAIN,
    "qwen3": _PLAIN,
    "gemma2": partial(LlamaViews, norm=Norm("input_layernorm", offset=1.0)),
    "olmo2": partial(LlamaViews, norm=None),
}
