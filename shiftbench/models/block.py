"""A transformer as data: what one layer consists of, for whoever pushes derivatives through it by hand.

Every architecture fills in the same fields; none needs code of its own in the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Norm:
    """x -> gain * (x - mean?) / sqrt(mean square + eps) + bias; RMSNorm does not centre, LayerNorm does."""

    gain_D: Tensor
    eps: float
    centred: bool = False
    bias_D: Tensor | None = None


@dataclass(frozen=True)
class Linear:
    """x @ weight_IO + bias_O; weight_IO is a view of the module's own weight, no copy."""

    weight_IO: Tensor
    bias_O: Tensor | None = None

    @cached_property
    def bfloat16_IO(self) -> Tensor:
        """The weight rounded to bfloat16, laid out the same: made when first asked for, gone with the model."""
        return self.weight_IO.to(torch.bfloat16)


@dataclass(frozen=True)
class Attention:
    """Causal self-attention of one layer; query heads share keys in groups.

    query_norm, key_norm: over each head where their gain is one head wide, over all heads together otherwise.
    cap: logits become cap * tanh(logits / cap). window: positions that a query sees, itself included; None: all.
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
    """One layer: x += after(attention(before(x))), then the same with the feed-forward network. None: no norm there."""

    attention: Attention
    feed_forward: FeedForward
    before_attention: Norm | None
    after_attention: Norm | None
    before_feed_forward: Norm | None
    after_feed_forward: Norm | None


@dataclass(frozen=True)
class Transformer:
    """A whole model. head: output embeddings. head_cap: logits become head_cap * tanh(logits / head_cap).

    rotary: positions and a tensor of the wanted dtype -> (cos_TE, sin_TE), first half of a head against its second;
    None where positions are learned. position_TD: learned positions' embeddings, row = position.
    """

    blocks: Sequence[Block]
    final_norm: Norm
    head: Linear
    head_cap: float | None = None
    rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    position_TD: Tensor | None = None
