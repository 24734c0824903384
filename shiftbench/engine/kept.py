"""What the derivatives need of a forward pass: docs/mathematics.md, 'How it is computed'."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from shiftbench.models.block import Attention, Block, Norm

Rotary = tuple[Tensor, Tensor] | None  # (cos_TE, sin_TE)


@dataclass(frozen=True)
class KeptNorm:
    """hat: the input, centred where the norm centres, times rho; rho: one over its length. Both before the gain."""

    norm: Norm
    hat: Tensor
    rho: Tensor


@dataclass(frozen=True)
class KeptAttention:
    """Keys and values are shared by a group G of query heads, K groups; queries and keys after their rotation.

    probability_KGTT: of attending. slope_KGTT: that times the soft cap's slope, the same tensor where there is no cap.
    mixed_KGTE: the attention's output by head.
    """

    spec: Attention
    query_norm: KeptNorm | None
    key_norm: KeptNorm | None
    query_KGTE: Tensor
    key_KTE: Tensor
    value_KTE: Tensor
    probability_KGTT: Tensor
    slope_KGTT: Tensor
    mixed_KGTE: Tensor


@dataclass(frozen=True)
class KeptFeedForward:
    """up_slope_TF: derivative of the inner activation by the up-projection; gate_slope_TF: by the gate."""

    up_slope_TF: Tensor
    gate_slope_TF: Tensor | None


@dataclass(frozen=True)
class KeptBlock:
    """One layer's forward pass over T positions."""

    block: Block
    before_attention: KeptNorm | None
    attention: KeptAttention
    after_attention: KeptNorm | None
    before_feed_forward: KeptNorm | None
    feed_forward: KeptFeedForward
    after_feed_forward: KeptNorm | None
    rotary: Rotary
