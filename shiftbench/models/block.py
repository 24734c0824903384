"""A transformer written down as data: the weights and settings of each layer, for the engine to differentiate.

Every architecture fills in the same fields, so the engine has no code for a single architecture. Shape suffixes: T
positions, D model width, E head width, I inputs and O outputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Norm:
    """RMSNorm, or LayerNorm where `centred` is true.

    RMSNorm: x -> gain * x / sqrt(mean(x ** 2) + eps) + bias. LayerNorm first subtracts the mean of x. bias_D is None
    where there is no bias.
    """

    gain_D: Tensor
    eps: float
    centred: bool = False
    bias_D: Tensor | None = None


@dataclass(frozen=True)
class Linear:
    """x -> x @ weight_IO + bias_O. weight_IO is a view of the module's own weight, not a copy."""

    weight_IO: Tensor
    bias_O: Tensor | None = None

    @cached_property
    def bfloat16_IO(self) -> Tensor:
        """The weight rounded to bfloat16, in the same memory layout. Computed on first use and freed with the model."""
        return self.weight_IO.to(torch.bfloat16)


@dataclass(frozen=True)
class Attention:
    """Causal self-attention of one layer.

    query, key, value, out: the four projections. heads: query heads. key_heads: key and value heads; each serves
    heads / key_heads query heads. scale: factor of the logits. query_norm, key_norm: a norm over each head where its
    gain is one head wide, over all heads together otherwise; None: no norm. cap: logits become
    cap * tanh(logits / cap); None: no cap. window: how many positions a query sees, its own
    included; None: all before it.
    """

    query: Linear
    key: Linear
    value: Linear
    out: Linear
    heads: int
    key_heads: int
    scale: float
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    cap: float | None = None
    window: int | None = None

    @property
    def head_width(self) -> int:
        """E: columns of the query projection that belong to one head."""
        return self.query.weight_IO.shape[1] // self.heads


@dataclass(frozen=True)
class FeedForward:
    """down(activation(gate(x)) * up(x)), or down(activation(up(x))) where there is no gate."""

    up: Linear
    down: Linear
    activation: Callable[[Tensor], Tensor]
    gate: Linear | None = None


@dataclass(frozen=True)
class Block:
    """One layer: x += after_attention(attention(before_attention(x))), then the same with the feed-forward network.

    A norm is None where the architecture has none at that place.
    """

    attention: Attention
    feed_forward: FeedForward
    before_attention: Norm | None
    after_attention: Norm | None
    before_feed_forward: Norm | None
    after_feed_forward: Norm | None


@dataclass(frozen=True)
class Transformer:
    """A whole model.

    head: the output embeddings. head_cap: logits become head_cap * tanh(logits / head_cap); None: no cap.
    rotary: (positions_T, a tensor of the wanted dtype and device) -> (cos_TE, sin_TE); the rotation pairs each element
    of a head's first half with the one at the same place in its second half. None where positions are learned.
    position_TD: the embeddings of learned positions, one row a position; None where the model has rotary embeddings.
    """

    blocks: Sequence[Block]
    final_norm: Norm
    head: Linear
    head_cap: float | None = None
    rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    position_TD: Tensor | None = None
