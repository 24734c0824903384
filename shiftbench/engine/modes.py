"""Forward and reverse mode through one layer, over rows of many derivatives at once (DESIGN 2)."""

from __future__ import annotations

from torch import Tensor

from shiftbench.engine import stages
from shiftbench.engine.kept import KeptBlock
from shiftbench.engine.product import add_product, product
from shiftbench.engine.rows import Stretches, moved


def push(kept: KeptBlock, d_ND: Tensor, source: Stretches, target: Stretches) -> Tensor:
    """Tangents of the layer's output on the target's positions, from those of its input on the source's."""
    spec, own = kept.block.attention, kept.attention
    both = source.common(target)
    position_N = source.position_N.to(d_ND.device)
    h_ND = stages.norm_tangent(kept.before_attention, d_ND, position_N)
    query_NO = product(moved(h_ND, source, both), spec.query.weight_IO)
    key_NO, value_NO = product(h_ND, spec.key.weight_IO), product(h_ND, spec.value.weight_IO)
    at_both_N = both.position_N.to(d_ND.device)
    mixed_NO = stages.attention_tangent(
        own,
        stages.heads_tangent(own.query_norm, query_NO, at_both_N, kept.rotary, spec.heads),
        stages.heads_tangent(own.key_norm, key_NO, position_N, kept.rotary, spec.key_heads),
        value_NO.unflatten(1, (spec.key_heads, spec.head_width)),
        both,
        source,
        target,
    )
    position_N = target.position_N.to(d_ND.device)
    d_ND = moved(d_ND, source, target)
    if kept.after_attention is None:
        d_ND = add_product(d_ND, mixed_NO, spec.out.weight_IO)
    else:
        d_ND = d_ND.add_(stages.norm_tangent(kept.after_attention, product(mixed_NO, spec.out.weight_IO), position_N))
    inner = kept.block.feed_forward
    h_ND = stages.norm_tangent(kept.before_feed_forward, d_ND, position_N)
    gate_NF = None if inner.gate is None else product(h_ND, inner.gate.weight_IO)
    inner_NF = stages.feed_forward_tangent(kept.feed_forward, product(h_ND, inner.up.weight_IO), gate_NF, position_N)
    if kept.after_feed_forward is None:
        return add_product(d_ND, inner_NF, inner.down.weight_IO)
    return d_ND.add_(stages.norm_tangent(kept.after_feed_forward, product(inner_NF, inner.down.weight_IO), position_N))


def pull(kept: KeptBlock, g_ND: Tensor, source: Stretches, target: Stretches) -> Tensor:
    """Cotangents of the layer's input on the target's positions, from those of its output on the source's."""
    spec, own, inner = kept.block.attention, kept.attention, kept.block.feed_forward
    both = source.common(target)
    position_N = source.position_N.to(g_ND.device)
    g_NF = product(stages.norm_cotangent(kept.after_feed_forward, g_ND, position_N), inner.down.weight_IO.T)
    up_NF, gate_NF = stages.feed_forward_cotangent(kept.feed_forward, g_NF, position_N)
    h_ND = product(up_NF, inner.up.weight_IO.T)
    if gate_NF is not None and inner.gate is not None:
        add_product(h_ND, gate_NF, inner.gate.weight_IO.T)
    g_ND = g_ND + stages.norm_cotangent(kept.before_feed_forward, h_ND, position_N)
    mixed_NO = product(stages.norm_cotangent(kept.after_attention, g_ND, position_N), spec.out.weight_IO.T)
    query_NHE, key_NKE, value_NKE = stages.attention_cotangent(
        own, mixed_NO.unflatten(1, (spec.heads, spec.head_width)), source, both, target
    )
    position_N = target.position_N.to(g_ND.device)
    key_NO = stages.heads_cotangent(own.key_norm, key_NKE, position_N, kept.rotary)
    h_ND = add_product(product(key_NO, spec.key.weight_IO.T), value_NKE.flatten(1), spec.value.weight_IO.T)
    at_both_N = both.position_N.to(g_ND.device)
    query_NO = stages.heads_cotangent(own.query_norm, query_NHE, at_both_N, kept.rotary)
    h_ND.add_(moved(product(query_NO, spec.query.weight_IO.T), both, target))
    return moved(g_ND, source, target).add_(stages.norm_cotangent(kept.before_attention, h_ND, position_N))
