"""Forward and reverse mode through one layer, over rows of many derivatives at once (docs/mathematics.md)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from shiftbench.engine import core, stages
from shiftbench.engine.kept import KeptBlock, KeptNorm
from shiftbench.engine.product import Precision
from shiftbench.engine.rows import Stretches, moved
from shiftbench.models.block import FeedForward, Linear


class Heads(NamedTuple):
    """Derivatives of what attention's heads meet: queries on their rows, keys and values on theirs."""

    query_NHE: Tensor
    key_NKE: Tensor
    value_NKE: Tensor


def push_to_heads(kept: KeptBlock, d_ND: Tensor, source: Stretches, queries: Stretches, precision: Precision) -> Heads:
    """Tangents of keys and values on the source's positions, and of queries on some of them."""
    spec, own = kept.block.attention, kept.attention
    position_N, at_query_N = source.position_on(d_ND.device), queries.position_on(d_ND.device)
    h_ND = stages.norm_tangent(kept.before_attention, d_ND, position_N)
    query_NO = precision.along(moved(h_ND, source, queries), spec.query)
    key_NO, value_NO = precision.along(h_ND, spec.key), precision.along(h_ND, spec.value)
    return Heads(
        stages.heads_tangent(own.query_norm, query_NO, at_query_N, kept.rotary, spec.heads),
        stages.heads_tangent(own.key_norm, key_NO, position_N, kept.rotary, spec.key_heads),
        value_NO.unflatten(1, (spec.key_heads, spec.head_width)),
    )


def push_from_mixed(kept: KeptBlock, d_ND: Tensor, mixed_NO: Tensor, at: Stretches, precision: Precision) -> Tensor:
    """Tangents of attention's sum, in d_ND, from those of its two parts: the layer's input and the heads' outputs."""
    position_N = at.position_on(d_ND.device)
    return _add(d_ND, mixed_NO, kept.block.attention.out, kept.after_attention, position_N, precision)


def push_through_feed_forward(kept: KeptBlock, d_ND: Tensor, at: Stretches, precision: Precision) -> Tensor:
    """Tangents of the layer's output, in d_ND, from those of attention's sum."""
    inner, position_N = kept.block.feed_forward, at.position_on(d_ND.device)
    h_ND = stages.norm_tangent(kept.before_feed_forward, d_ND, position_N)
    inner_NF = _inner_tangent(kept, h_ND, position_N, precision)
    del h_ND
    return _add(d_ND, inner_NF, inner.down, kept.after_feed_forward, position_N, precision)


def _merges(precision: Precision, inner: FeedForward, rows: Tensor) -> bool:
    return precision is not Precision.BFLOAT16 and core.merges(inner, rows)


def _inner_tangent(kept: KeptBlock, h_ND: Tensor, position_N: Tensor, precision: Precision) -> Tensor:
    """Tangents of the inner activation, from those of what the up-projection and the gate meet."""
    inner = kept.block.feed_forward
    if _merges(precision, inner, h_ND):
        return core.gated(kept.feed_forward, inner, h_ND, position_N, cotangent=False)
    gate_NF = None if inner.gate is None else precision.along(h_ND, inner.gate)
    up_NF = precision.along(h_ND, inner.up)
    return stages.feed_forward_tangent(kept.feed_forward, up_NF, gate_NF, position_N)


def _inner_cotangent(kept: KeptBlock, g_NF: Tensor, position_N: Tensor, precision: Precision) -> Tensor:
    """Cotangents of what the up-projection and the gate meet, from those of the inner activation, used up."""
    inner = kept.block.feed_forward
    if _merges(precision, inner, g_NF):
        return core.gated(kept.feed_forward, inner, g_NF, position_N, cotangent=True)
    up_NF, gate_NF = stages.feed_forward_cotangent(kept.feed_forward, g_NF, position_N)
    h_ND = precision.back(up_NF, inner.up)
    if gate_NF is not None and inner.gate is not None:
        precision.add_back(h_ND, gate_NF, inner.gate)
    return h_ND


def _add(
    d_ND: Tensor, x_NI: Tensor, linear: Linear, norm: KeptNorm | None, position_N: Tensor, precision: Precision
) -> Tensor:
    """d_ND, with the tangents of norm(x @ weight) added in place."""
    if norm is None:
        return precision.add_along(d_ND, x_NI, linear)
    return d_ND.add_(stages.norm_tangent(norm, precision.along(x_NI, linear), position_N))


def pull_to_mixed(kept: KeptBlock, g_ND: Tensor, source: Stretches, precision: Precision) -> Tensor:
    """mixed_NHE: cotangents of the heads' outputs. g_ND, of the layer's output, becomes that of attention's sum."""
    inner, spec = kept.block.feed_forward, kept.block.attention
    position_N = source.position_on(g_ND.device)
    g_NF = precision.back(stages.norm_cotangent(kept.after_feed_forward, g_ND, position_N), inner.down)
    h_ND = _inner_cotangent(kept, g_NF, position_N, precision)
    del g_NF
    g_ND.add_(stages.norm_cotangent(kept.before_feed_forward, h_ND, position_N))
    del h_ND
    mixed_NO = precision.back(stages.norm_cotangent(kept.after_attention, g_ND, position_N), spec.out)
    return mixed_NO.unflatten(1, (spec.heads, spec.head_width))


def pull_from_heads(
    kept: KeptBlock, g_ND: Tensor, heads: Heads, source: Stretches, target: Stretches, precision: Precision
) -> Tensor:
    """Cotangents of the layer's input on the target's positions: by the heads, and by attention's sum, g_ND.

    Keys and values are on the target's positions, queries on those that the source shares. g_ND is used up.
    """
    spec, own = kept.block.attention, kept.attention
    both = source.common(target)
    position_N, at_both_N = target.position_on(g_ND.device), both.position_on(g_ND.device)
    key_NO = stages.heads_cotangent(own.key_norm, heads.key_NKE, position_N, kept.rotary)
    h_ND = precision.add_back(precision.back(key_NO, spec.key), heads.value_NKE.flatten(1), spec.value)
    query_NO = stages.heads_cotangent(own.query_norm, heads.query_NHE, at_both_N, kept.rotary)
    h_ND.add_(moved(precision.back(query_NO, spec.query), both, target))
    return moved(g_ND, source, target).add_(stages.norm_cotangent(kept.before_attention, h_ND, position_N))
