"""Forward and reverse mode through one layer, over rows of many derivatives at once (DESIGN 2)."""

from __future__ import annotations

from torch import Tensor

from shiftbench.engine import stages
from shiftbench.engine.kept import KeptBlock, KeptNorm
from shiftbench.engine.product import Precision
from shiftbench.engine.rows import Stretches, moved
from shiftbench.models.block import Linear


def push(kept: KeptBlock, d_ND: Tensor, source: Stretches, target: Stretches, precision: Precision) -> Tensor:
    """Tangents of the layer's output on the target's positions, from those of its input on the source's.

    d_ND is used up: the result may be made in it.
    """
    position_N = target.position_on(d_ND.device)
    mixed_NO = _push_attention(kept, d_ND, source, target, precision)
    d_ND = moved(d_ND, source, target)
    d_ND = _add(d_ND, mixed_NO, kept.block.attention.out, kept.after_attention, position_N, precision)
    del mixed_NO
    inner = kept.block.feed_forward
    h_ND = stages.norm_tangent(kept.before_feed_forward, d_ND, position_N)
    gate_NF = None if inner.gate is None else precision.along(h_ND, inner.gate)
    up_NF = precision.along(h_ND, inner.up)
    inner_NF = stages.feed_forward_tangent(kept.feed_forward, up_NF, gate_NF, position_N)
    del h_ND, up_NF, gate_NF
    return _add(d_ND, inner_NF, inner.down, kept.after_feed_forward, position_N, precision)


def _push_attention(
    kept: KeptBlock, d_ND: Tensor, source: Stretches, target: Stretches, precision: Precision
) -> Tensor:
    """mixed_NO: tangents of the heads' outputs, on the target's positions."""
    spec, own = kept.block.attention, kept.attention
    both = source.common(target)
    position_N, at_both_N = source.position_on(d_ND.device), both.position_on(d_ND.device)
    h_ND = stages.norm_tangent(kept.before_attention, d_ND, position_N)
    query_NO = precision.along(moved(h_ND, source, both), spec.query)
    key_NO, value_NO = precision.along(h_ND, spec.key), precision.along(h_ND, spec.value)
    return stages.attention_tangent(
        own,
        stages.heads_tangent(own.query_norm, query_NO, at_both_N, kept.rotary, spec.heads),
        stages.heads_tangent(own.key_norm, key_NO, position_N, kept.rotary, spec.key_heads),
        value_NO.unflatten(1, (spec.key_heads, spec.head_width)),
        both,
        source,
        target,
    )


def _add(
    d_ND: Tensor, x_NI: Tensor, linear: Linear, norm: KeptNorm | None, position_N: Tensor, precision: Precision
) -> Tensor:
    """d_ND, with the tangents of norm(x @ weight) added in place."""
    if norm is None:
        return precision.add_along(d_ND, x_NI, linear)
    return d_ND.add_(stages.norm_tangent(norm, precision.along(x_NI, linear), position_N))


def pull(kept: KeptBlock, g_ND: Tensor, source: Stretches, target: Stretches, precision: Precision) -> Tensor:
    """Cotangents of the layer's input on the target's positions, from those of its output on the source's.

    g_ND is used up: the result may be made in it.
    """
    inner = kept.block.feed_forward
    position_N = source.position_on(g_ND.device)
    g_NF = precision.back(stages.norm_cotangent(kept.after_feed_forward, g_ND, position_N), inner.down)
    up_NF, gate_NF = stages.feed_forward_cotangent(kept.feed_forward, g_NF, position_N)
    h_ND = precision.back(up_NF, inner.up)
    if gate_NF is not None and inner.gate is not None:
        precision.add_back(h_ND, gate_NF, inner.gate)
    del g_NF, up_NF, gate_NF
    g_ND.add_(stages.norm_cotangent(kept.before_feed_forward, h_ND, position_N))
    h_ND = _pull_attention(kept, g_ND, source, target, precision)
    position_N = target.position_on(g_ND.device)
    return moved(g_ND, source, target).add_(stages.norm_cotangent(kept.before_attention, h_ND, position_N))


def _pull_attention(
    kept: KeptBlock, g_ND: Tensor, source: Stretches, target: Stretches, precision: Precision
) -> Tensor:
    """h_ND: cotangents of what queries, keys and values are made from, on the target's positions."""
    spec, own = kept.block.attention, kept.attention
    both = source.common(target)
    normed_ND = stages.norm_cotangent(kept.after_attention, g_ND, source.position_on(g_ND.device))
    mixed_NO = precision.back(normed_ND, spec.out)
    del normed_ND
    query_NHE, key_NKE, value_NKE = stages.attention_cotangent(
        own, mixed_NO.unflatten(1, (spec.heads, spec.head_width)), source, both, target
    )
    del mixed_NO
    key_NO = stages.heads_cotangent(own.key_norm, key_NKE, target.position_on(g_ND.device), kept.rotary)
    h_ND = precision.add_back(precision.back(key_NO, spec.key), value_NKE.flatten(1), spec.value)
    query_NO = stages.heads_cotangent(own.query_norm, query_NHE, both.position_on(g_ND.device), kept.rotary)
    return h_ND.add_(moved(precision.back(query_NO, spec.query), both, target))
