"""jvp and vjp of one layer, for the rows of many derivatives at once (docs/mathematics.md, "How it is computed").

Each function takes the rows through one part of a layer, because rows are stored and multiplied at the cut (cut.py) in
the middle of a layer. Between the parts are the head outputs ("mixed"), before the output projection, and the
"attention sum": the layer's input plus what attention adds to it, which the feed-forward network reads.
Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from shiftbench.engine import core_calls, part_derivatives
from shiftbench.engine.forward_cache import LayerCache, NormCache
from shiftbench.engine.product import Precision
from shiftbench.engine.row_layout import RowLayout, move_rows
from shiftbench.models.block import FeedForward, Linear


class HeadDerivatives(NamedTuple):
    """Tangents, or cotangents, of queries and keys after their norm and rotation, and of values.

    query_NHE has the rows of one layout, key_NKE and value_NKE have those of another.
    """

    query_NHE: Tensor
    key_NKE: Tensor
    value_NKE: Tensor


def jvp_to_heads(
    cache: LayerCache, d_ND: Tensor, source: RowLayout, queries: RowLayout, precision: Precision
) -> HeadDerivatives:
    """Tangents of queries, keys and values from those of the layer's input, d_ND.

    source: the layout of d_ND, and of the tangents of keys and values. queries: the layout of the tangents of queries,
    whose rows are some of the rows of `source`.
    """
    spec, attention = cache.block.attention, cache.attention
    position_N, query_position_N = source.position_on(d_ND.device), queries.position_on(d_ND.device)
    h_ND = part_derivatives.norm_jvp(cache.before_attention, d_ND, position_N)
    query_NO = precision.linear_jvp(move_rows(h_ND, source, queries), spec.query)
    key_NO, value_NO = precision.linear_jvp(h_ND, spec.key), precision.linear_jvp(h_ND, spec.value)
    return HeadDerivatives(
        part_derivatives.heads_jvp(attention.query_norm, query_NO, query_position_N, cache.rotary, spec.heads),
        part_derivatives.heads_jvp(attention.key_norm, key_NO, position_N, cache.rotary, spec.key_heads),
        value_NO.unflatten(1, (spec.key_heads, spec.head_width)),
    )


def jvp_from_mixed(
    cache: LayerCache, d_ND: Tensor, mixed_NO: Tensor, layout: RowLayout, precision: Precision
) -> Tensor:
    """Tangents of the attention sum, from d_ND and mixed_NO; they overwrite d_ND.

    d_ND: tangents of the layer's input. mixed_NO: tangents of the head outputs. layout: of both.
    """
    position_N = layout.position_on(d_ND.device)
    return _add_branch(d_ND, mixed_NO, cache.block.attention.out, cache.after_attention, position_N, precision)


def jvp_feed_forward(cache: LayerCache, d_ND: Tensor, layout: RowLayout, precision: Precision) -> Tensor:
    """Tangents of the layer's output, from those of the attention sum, d_ND; they overwrite d_ND. layout: of d_ND."""
    inner, position_N = cache.block.feed_forward, layout.position_on(d_ND.device)
    h_ND = part_derivatives.norm_jvp(cache.before_feed_forward, d_ND, position_N)
    inner_NF = _inner_jvp(cache, h_ND, position_N, precision)
    del h_ND
    return _add_branch(d_ND, inner_NF, inner.down, cache.after_feed_forward, position_N, precision)


def _merges_gate(precision: Precision, inner: FeedForward, rows: Tensor) -> bool:
    return precision is not Precision.BFLOAT16 and core_calls.merges_gate(inner, rows)


def _inner_jvp(cache: LayerCache, h_ND: Tensor, position_N: Tensor, precision: Precision) -> Tensor:
    """Tangents [N, F] of the inner activation, from tangents h_ND of the input of the up-projection and the gate."""
    inner = cache.block.feed_forward
    if _merges_gate(precision, inner, h_ND):
        return core_calls.gate_up_derivative(cache.feed_forward, inner, h_ND, position_N, cotangent=False)
    gate_NF = None if inner.gate is None else precision.linear_jvp(h_ND, inner.gate)
    up_NF = precision.linear_jvp(h_ND, inner.up)
    return part_derivatives.feed_forward_jvp(cache.feed_forward, up_NF, gate_NF, position_N)


def _inner_vjp(cache: LayerCache, g_NF: Tensor, position_N: Tensor, precision: Precision) -> Tensor:
    """Cotangents [N, D] of the input of the up-projection and the gate, from those of the inner activation, g_NF.

    g_NF may be overwritten.
    """
    inner = cache.block.feed_forward
    if _merges_gate(precision, inner, g_NF):
        return core_calls.gate_up_derivative(cache.feed_forward, inner, g_NF, position_N, cotangent=True)
    up_NF, gate_NF = part_derivatives.feed_forward_vjp(cache.feed_forward, g_NF, position_N)
    h_ND = precision.linear_vjp(up_NF, inner.up)
    if gate_NF is not None and inner.gate is not None:
        precision.add_linear_vjp(h_ND, gate_NF, inner.gate)
    return h_ND


def _add_branch(
    d_ND: Tensor, x_NI: Tensor, linear: Linear, norm: NormCache | None, position_N: Tensor, precision: Precision
) -> Tensor:
    """d_ND, to which the tangents of norm(x @ weight) are added in place.

    x_NI: tangents of x. linear: has the weight. norm: the norm's cache; None where there is no norm.
    """
    if norm is None:
        return precision.add_linear_jvp(d_ND, x_NI, linear)
    return d_ND.add_(part_derivatives.norm_jvp(norm, precision.linear_jvp(x_NI, linear), position_N))


def vjp_to_mixed(cache: LayerCache, g_ND: Tensor, source: RowLayout, precision: Precision) -> Tensor:
    """mixed_NHE: cotangents of the head outputs, from those of the layer's output, g_ND.

    source: the layout of g_ND and of the result. Afterwards g_ND holds cotangents of the attention sum.
    """
    inner, spec = cache.block.feed_forward, cache.block.attention
    position_N = source.position_on(g_ND.device)
    g_NF = precision.linear_vjp(part_derivatives.norm_vjp(cache.after_feed_forward, g_ND, position_N), inner.down)
    h_ND = _inner_vjp(cache, g_NF, position_N, precision)
    del g_NF
    g_ND.add_(part_derivatives.norm_vjp(cache.before_feed_forward, h_ND, position_N))
    del h_ND
    mixed_NO = precision.linear_vjp(part_derivatives.norm_vjp(cache.after_attention, g_ND, position_N), spec.out)
    mixed_NHE: Tensor = mixed_NO.unflatten(1, (spec.heads, spec.head_width))
    return mixed_NHE


def vjp_from_heads(
    cache: LayerCache, g_ND: Tensor, heads: HeadDerivatives, source: RowLayout, target: RowLayout, precision: Precision
) -> Tensor:
    """Cotangents of the layer's input on the rows of `target`.

    g_ND: cotangents of the attention sum on the rows of `source`; it may be overwritten, and so may `heads`. heads:
    cotangents of keys and values on the rows of `target`, and of queries on the rows at which `source` and `target`
    have the same item and position.
    """
    spec, attention = cache.block.attention, cache.attention
    both = source.intersect(target)
    position_N, both_position_N = target.position_on(g_ND.device), both.position_on(g_ND.device)
    key_NO = part_derivatives.heads_vjp(attention.key_norm, heads.key_NKE, position_N, cache.rotary)
    h_ND = precision.add_linear_vjp(precision.linear_vjp(key_NO, spec.key), heads.value_NKE.flatten(1), spec.value)
    query_NO = part_derivatives.heads_vjp(attention.query_norm, heads.query_NHE, both_position_N, cache.rotary)
    h_ND.add_(move_rows(precision.linear_vjp(query_NO, spec.query), both, target))
    return move_rows(g_ND, source, target).add_(part_derivatives.norm_vjp(cache.before_attention, h_ND, position_N))
