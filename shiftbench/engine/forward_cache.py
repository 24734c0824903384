"""The forward cache: what a forward pass keeps of each layer for the derivatives.

The formulas that read it are in docs/mathematics.md, section "How it is computed". Shape suffixes: see
shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from shiftbench.models.block import Attention, Block, Norm

Rotary = tuple[Tensor, Tensor] | None  # (cos_TE, sin_TE) of each position's angles; None: no rotation


@dataclass(frozen=True)
class NormCache:
    """The forward cache of a norm with input x [T, width], or [T, heads, width] where each head is normed by itself.

    norm: the norm's weights. hat: x, less its mean where the norm centres, times rho; gain and bias are not applied.
    rho: 1 / sqrt(mean square + eps) of each vector, from which the mean was subtracted where the norm centres; the last
    dimension is 1.
    """

    norm: Norm
    hat: Tensor
    rho: Tensor


@dataclass(frozen=True)
class AttentionCache:
    """The forward cache of attention over T positions. Each of K key heads serves a group of G query heads.

    spec: the weights and settings. query_norm, key_norm: caches of the norms of queries and keys; None where there is
    no such norm. query_KGTE, key_KTE: after their norms and their rotation. probability_KGTT: attention probabilities
    of each querying position (first T) over the positions that it may see (second T), 0 where a key is not seen.
    slope_KGTT: the probabilities times the derivative of the soft cap; the same tensor as probability_KGTT where there
    is no cap. mixed_KGTE: head outputs, which are the values averaged with the probabilities, before the output
    projection.
    """

    spec: Attention
    query_norm: NormCache | None
    key_norm: NormCache | None
    query_KGTE: Tensor
    key_KTE: Tensor
    value_KTE: Tensor
    probability_KGTT: Tensor
    slope_KGTT: Tensor
    mixed_KGTE: Tensor


@dataclass(frozen=True)
class FeedForwardCache:
    """Derivatives of the inner activation (the input of the down-projection) at each position.

    up_slope_TF: its derivative by the output of the up-projection. gate_slope_TF: its derivative by the output of the
    gate; None where there is no gate.
    """

    up_slope_TF: Tensor
    gate_slope_TF: Tensor | None


@dataclass(frozen=True)
class LayerCache:
    """The forward cache of one layer over T positions.

    block: the layer's weights. rotary: the angles by which queries and keys were rotated. A norm's cache is None where
    the layer has no norm at that place.
    """

    block: Block
    before_attention: NormCache | None
    attention: AttentionCache
    after_attention: NormCache | None
    before_feed_forward: NormCache | None
    feed_forward: FeedForwardCache
    after_feed_forward: NormCache | None
    rotary: Rotary
