"""Weights of GPT-2: one fused projection for query, key and value, stored input first; LayerNorm in front."""

from __future__ import annotations

from torch import Tensor

from shiftbench.models.views import WeightViews


class Gpt2Views(WeightViews):
    """GPT-2's weights. Position embeddings are not in any view."""

    def query_HDE(self, layer: int) -> Tensor:
        """Query weights with the gain of the LayerNorm before attention folded in; its centring and biases are not."""
        return self._projection_HDE(layer, 0)

    def key_HDE(self, layer: int) -> Tensor:
        """Key weights, folded as query_HDE is."""
        return self._projection_HDE(layer, 1)

    def down_FD(self, layer: int) -> Tensor:
        """Rows of the second feed-forward projection; its bias is left out."""
        inner = self.module.config.n_inner or 4 * self.width
        return self.weight(f"transformer.h.{layer}.mlp.c_proj", inner, self.width)

    def _projection_HDE(self, layer: int, part: int) -> Tensor:
        place = f"transformer.h.{layer}"
        fused = self.weight(f"{place}.attn.c_attn", self.width, 3 * self.width)
        gain_D = self.weight(f"{place}.ln_1", self.width)
        part_DD = gain_D[:, None] * fused[:, part * self.width : (part + 1) * self.width]
        return part_DD.view(self.width, self.heads, -1).transpose(0, 1)


ARCHITECTURES = {"gpt2": Gpt2Views}
