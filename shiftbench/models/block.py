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

    RMSNorm: x -> gain * x / sqrt(mean(x ** 2) + eps) + bias, with the mean over the last axis of x, whose length is
    that of gain_D. LayerNorm first subtracts the mean of x from x. bias_D is None where there is no bias.
    """

    gain_D: Tensor
    eps: float
    centred: bool = False
    bias_D: Tensor | None = None


@dataclass(frozen=True)
class Linear:
    """x -> x @ weight_IO + bias_O, without the bias where bias_O is None.

    weight_IO is a view of the module's own weight, not a copy.
    """

    weight_IO: Tensor
    bias_O: Tensor | None = None

    @cached_property
    def bfloat16_IO(self) -> Tensor:
        """The weight rounded to bfloat16, with its axes in the same order in memory. Computed on first use and kept."""
        return self.weight_IO.to(torch.bfloat16)


@dataclass(frozen=True)
class Attention:
    """Causal self-attention of one layer.

    query, key, value, out: the four projections. heads: the number of query heads. key_heads: the number of key heads,
    and also of value heads; each serves heads / key_heads consecutive query heads. scale: the products of queries and
    keys are multiplied by it to give the logits. query_norm, key_norm: a norm of the query or key projections; it
    normalises each head alone where gain_D has the width of one head, and all heads together where gain_D has the width
    of all; None: no norm. cap: logits become cap * tanh(logits / cap); None: no cap. window: how many positions a query
    sees, the query's own position and those before it; None: its own position and all positions before it.
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
        """E: how many columns of the query projection belong to one head."""
        return self.query.weight_IO.shape[1] // self.heads


@dataclass(frozen=True)
class FeedForward:
    """x -> down(activation(gate(x)) * up(x)), or x -> down(activation(up(x))) where gate is None."""

    up: Linear
    down: Linear
    activation: Callable[[Tensor], Tensor]
    gate: Linear | None = None


@dataclass(frozen=True)
class Block:
    """One layer, which changes the hidden state x in two steps.

    x += after_attention(attention(before_attention(x))), then
    x += after_feed_forward(feed_forward(before_feed_forward(x))).
    A norm is None where the architecture has none at that place; x passes that place unchanged.
    """

    attention: Attention
    feed_forward: FeedForward
    before_attention: Norm | None
    after_attention: Norm | None
    before_feed_forward: Norm | None
    after_feed_forward: Norm | None


@dataclass(frozen=True)
class Transformer:
    """A whole model, from the hidden state before the first layer to the logits. Token embeddings are not part of it.

    blocks: the layers, from the input on. The logits are head(final_norm(x)) of the last layer's x. head: the output
    embeddings as a linear layer. head_cap: the logits become head_cap * tanh(logits / head_cap); None: no cap.
    rotary: a function (position_T, a tensor of the wanted dtype and device) -> (cos_TE, sin_TE). Queries and keys are
    rotated after their norms. The rotation pairs each element of a head's first half with the element at the same place
    in its second half. None where the model has learned positions. position_TD: the embeddings of learned positions,
    one row a position, which are added to the token embeddings before the first layer; None where the model has rotary
    embeddings.
    """

    blocks: Sequence[Block]
    final_norm: Norm
    head: Linear
    head_cap: float | None = None
    rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    position_TD: Tensor | None = None
