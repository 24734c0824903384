"""Weights of the Llama family. The class Norms describes where the norms of each member of the family stand."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from shiftbench.models.block import Attention, Block, FeedForward, Norm, Transformer
from shiftbench.models.views import WeightViews, linear


@dataclass(frozen=True)
class Norms:
    """Names of the submodules that are the norms of a layer; None where the architecture has no norm at that place.

    offset: the gain of every norm of the model is its stored weight plus this number.
    """

    before_attention: str | None = "input_layernorm"
    after_attention: str | None = None
    before_feed_forward: str | None = "post_attention_layernorm"
    after_feed_forward: str | None = None
    offset: float = 0.0


class LlamaViews(WeightViews):
    """Weight views of one member of the family. norms: where the norms of its layers stand."""

    gated = True

    def __init__(self, module: PreTrainedModel, norms: Norms) -> None:
        super().__init__(module)
        config = module.config
        self.norms = norms
        self.key_heads: int = config.num_key_value_heads
        self.head_width: int = getattr(config, "head_dim", None) or self.width // self.heads

    def query_HDE(self, layer: int) -> Tensor:
        """Query weights of each head, multiplied by the gain of the layer's input norm.

        Biases and query norms are left out. OLMo-2 has no input norm, so its query weights are multiplied by no gain.
        Gemma-2 stores gain - 1, so 1 is added to the stored weight of the norm first.
        """
        return self._projection_HDE(layer, "q_proj", self.heads)

    def key_HDE(self, layer: int) -> Tensor:
        """Key weights of each query head, multiplied by the gain of the layer's input norm as in query_HDE.

        Query heads that share a key head get equal matrices. Biases and key norms are left out.
        """
        key_HDE = self._projection_HDE(layer, "k_proj", self.key_heads)
        return key_HDE.repeat_interleave(self.heads // self.key_heads, dim=0)

    def down_FD(self, layer: int) -> Tensor:
        """Weights of the down-projection, one row a neuron; a norm after it (Gemma-2, OLMo-2) is left out."""
        return self.weight(f"model.layers.{layer}.mlp.down_proj", self.width, self.module.config.intermediate_size).T

    def transformer(self) -> Transformer:
        """The model as data. Norms and biases are read from the modules, caps and windows from the configuration."""
        module: Any = self.module

        def rotary(position_T: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
            cos_BTE, sin_BTE = module.model.rotary_emb(like, position_T[None])
            return cos_BTE[0], sin_BTE[0]

        final = self._norm(module.model.norm)
        assert final is not None
        return Transformer(
            [self._block(index, layer) for index, layer in enumerate(module.model.layers)],
            final,
            linear(module.get_output_embeddings()),
            getattr(self.module.config, "final_logit_softcapping", None),
            rotary,
        )

    def _block(self, index: int, layer: Any) -> Block:
        """One layer as data. index: the layer's number, counted from 0. layer: its module."""
        own, mlp, config = layer.self_attn, layer.mlp, self.module.config
        kinds = getattr(config, "layer_types", None)
        slides = config.model_type in SLIDING if kinds is None else kinds[index] == "sliding_attention"
        attention = Attention(
            query=linear(own.q_proj),
            key=linear(own.k_proj),
            value=linear(own.v_proj),
            out=linear(own.o_proj),
            heads=self.heads,
            key_heads=self.key_heads,
            scale=own.scaling,
            query_norm=self._norm(getattr(own, "q_norm", None)),
            key_norm=self._norm(getattr(own, "k_norm", None)),
            cap=getattr(config, "attn_logit_softcapping", None),
            window=getattr(config, "sliding_window", None) if slides else None,
        )
        feed_forward = FeedForward(linear(mlp.up_proj), linear(mlp.down_proj), mlp.act_fn, linear(mlp.gate_proj))
        norms = (getattr(self.norms, field.name) for field in fields(Norms) if field.name != "offset")
        before, after, before_inner, after_inner = (self._norm(name and getattr(layer, name)) for name in norms)
        return Block(attention, feed_forward, before, after, before_inner, after_inner)

    def _norm(self, part: Any) -> Norm | None:
        """A norm's module as data; None where there is no module."""
        if part is None:
            return None
        gain_D = part.weight.detach()
        eps = part.variance_epsilon if hasattr(part, "variance_epsilon") else part.eps
        return Norm(gain_D + self.norms.offset if self.norms.offset else gain_D, eps)

    def _projection_HDE(self, layer: int, name: str, heads: int) -> Tensor:
        """The weights of a projection by heads, multiplied by the gain of the layer's input norm where it has one.

        Row d of each head's matrix is multiplied by element d of the gain. name: "q_proj" or "k_proj". heads: how many
        heads that projection has.
        """
        place = f"model.layers.{layer}"
        weight = self.weight(f"{place}.self_attn.{name}", heads * self.head_width, self.width)
        if self.norms.before_attention is not None:
            weight = weight * (self.weight(f"{place}.{self.norms.before_attention}", self.width) + self.norms.offset)
        return weight.view(heads, self.head_width, self.width).transpose(1, 2)


_PLAIN = partial(LlamaViews, norms=Norms())
_AROUND = Norms(
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"
)
_BEHIND = Norms(None, "post_attention_layernorm", None, "post_feedforward_layernorm")
ARCHITECTURES = {
    "llama": _PLAIN,  # SmolLM and Vicuna have this type too
    "mistral": _PLAIN,
    "qwen2": _PLAIN,
    "qwen3": _PLAIN,
    "gemma2": partial(LlamaViews, norms=replace(_AROUND, offset=1.0)),
    "olmo2": partial(LlamaViews, norms=_BEHIND),
}
# Architectures in which every layer has the window `sliding_window` where the configuration has no layer_types. In the
# other architectures no layer has a window then.
SLIDING = {"mistral"}
