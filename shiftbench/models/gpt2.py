"""Weights of GPT-2: one fused projection for query, key and value, stored inputs x outputs.

Each layer has a LayerNorm before attention and another before the feed-forward network.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from shiftbench.models.block import Attention, Block, FeedForward, Linear, Norm, Transformer
from shiftbench.models.views import WeightViews, linear


class Gpt2Views(WeightViews):
    """Weight views of GPT-2. Its learned position embeddings are in none of the matrices; `transformer` gives them."""

    def query_HDE(self, layer: int) -> Tensor:
        """Query weights of each head, multiplied by the gain of the LayerNorm before attention.

        The centring and the bias of that LayerNorm, and the bias of the projection, are left out.
        """
        return self._projection_HDE(layer, 0)

    def key_HDE(self, layer: int) -> Tensor:
        """Key weights of each head, multiplied by the gain of the LayerNorm before attention.

        What query_HDE leaves out is left out here too.
        """
        return self._projection_HDE(layer, 1)

    def down_FD(self, layer: int) -> Tensor:
        """Weights of the second feed-forward projection, one row a neuron; the bias is left out."""
        inner = self.module.config.n_inner or 4 * self.width
        return self.weight(f"transformer.h.{layer}.mlp.c_proj", inner, self.width)

    def transformer(self) -> Transformer:
        """The model as data. The query, key and value weights are three views of the fused projection."""
        trunk: Any = self.module.transformer
        return Transformer(
            [self._block(index, layer) for index, layer in enumerate(trunk.h)],
            _norm(trunk.ln_f),
            linear(self.module.get_output_embeddings()),
            position_TD=trunk.wpe.weight.detach(),
        )

    def _block(self, index: int, layer: Any) -> Block:
        """One layer as data. index: the layer's number, counted from 0. layer: its module."""
        config = self.module.config
        fused, width = linear(layer.attn.c_attn), self.width
        parts = [slice(width * i, width * (i + 1)) for i in range(3)]
        scale = (width // self.heads) ** -0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            scale /= index + 1
        query, key, value = (
            Linear(fused.weight_IO[:, part], None if fused.bias_O is None else fused.bias_O[part]) for part in parts
        )
        out = linear(layer.attn.c_proj)
        attention = Attention(query, key, value, out, self.heads, self.heads, scale)
        feed_forward = FeedForward(linear(layer.mlp.c_fc), linear(layer.mlp.c_proj), layer.mlp.act)
        return Block(attention, feed_forward, _norm(layer.ln_1), None, _norm(layer.ln_2), None)

    def _projection_HDE(self, layer: int, part: int) -> Tensor:
        """A third of the fused projection c_attn, by heads, each row times the gain of the LayerNorm before attention.

        part: 0 for the query, 1 for the key, 2 for the value.
        """
        place = f"transformer.h.{layer}"
        fused = self.weight(f"{place}.attn.c_attn", self.width, 3 * self.width)
        gain_D = self.weight(f"{place}.ln_1", self.width)
        part_DD = gain_D[:, None] * fused[:, part * self.width : (part + 1) * self.width]
        return part_DD.view(self.width, self.heads, -1).transpose(0, 1)


def _norm(part: Any) -> Norm:
    return Norm(part.weight.detach(), part.eps, True, part.bias.detach())


ARCHITECTURES = {"gpt2": Gpt2Views}
