"""jvp and vjp of the parts of a layer that stand between its matrix products: norm, rotation, attention, activation.

A jvp turns tangents of a part's input into tangents of its output, a vjp turns cotangents of its output into cotangents
of its input. Norm and rotation have almost the same function for both: only the place of the gain and the sign of the
angle differ. position_N is the position of each row, at which the forward cache is read. The formulas are those of
docs/mathematics.md, section "How it is computed". Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench.engine import core_calls
from shiftbench.engine.dense_blocks import ItemGroup, group_items
from shiftbench.engine.forward import rotate
from shiftbench.engine.forward_cache import AttentionCache, FeedForwardCache, NormCache, Rotary
from shiftbench.engine.row_layout import RowLayout

# Where torch computes attention, not the core, the attention scores of one head that are in memory at once are those of
# one item, or at most SCORES times as many numbers as one head has in the rows of a chunk.
SCORES = 8


def norm_jvp(cache: NormCache | None, d_ND: Tensor, position_N: Tensor) -> Tensor:
    """Tangents of the norm's output from those of its input, d_ND; d_ND itself where there is no norm."""
    if cache is None:
        return d_ND
    if core_calls.supports(d_ND):
        return core_calls.norm_derivative(cache, d_ND, position_N, cotangent=False)
    return _normalise(cache, d_ND, position_N) * cache.norm.gain_D


def norm_vjp(cache: NormCache | None, g_ND: Tensor, position_N: Tensor) -> Tensor:
    """Cotangents of the norm's input from those of its output, g_ND; g_ND itself where there is no norm."""
    if cache is None:
        return g_ND
    if core_calls.supports(g_ND):
        return core_calls.norm_derivative(cache, g_ND, position_N, cotangent=True)
    return _normalise(cache, g_ND * cache.norm.gain_D, position_N)


def _normalise(cache: NormCache, d: Tensor, position_N: Tensor) -> Tensor:
    """rho * (d - mean(d) - hat * mean(d * hat)), without mean(d) where the norm does not centre; means over a vector.

    This is the derivative of the norm before its gain, a symmetric matrix, so it serves tangents and cotangents.
    """
    hat, rho = cache.hat[position_N], cache.rho[position_N]
    along = (d * hat).mean(-1, keepdim=True)
    d = d - d.mean(-1, keepdim=True) if cache.norm.centred else d
    return (d - hat * along) * rho


def heads_jvp(cache: NormCache | None, d_NO: Tensor, position_N: Tensor, rotary: Rotary, heads: int) -> Tensor:
    """Tangents [N, heads, E] of queries or keys after norm and rotation, from those of their projection's output, d_NO.

    d_NO may be overwritten. cache: of the query norm or key norm; None where there is no such norm.
    """
    groups = (heads, d_NO.shape[1] // heads)
    if cache is None:
        d_NHE = d_NO.unflatten(1, groups)
    elif cache.hat.ndim == 2:  # a norm over all heads together
        d_NHE = norm_jvp(cache, d_NO, position_N).unflatten(1, groups)
    else:
        d_NHE = norm_jvp(cache, d_NO.unflatten(1, groups), position_N)
    return _rotate(d_NHE, rotary, position_N, inverse=False)


def heads_vjp(cache: NormCache | None, g_NHE: Tensor, position_N: Tensor, rotary: Rotary) -> Tensor:
    """Cotangents [N, O] of the projection's output, from those of queries or keys after norm and rotation.

    g_NHE may be overwritten. cache: of the query norm or key norm; None where there is no such norm.
    """
    g_NHE = _rotate(g_NHE, rotary, position_N, inverse=True)
    if cache is not None:
        over_heads = cache.hat.ndim == 2
        g_NHE = norm_vjp(cache, g_NHE.flatten(1) if over_heads else g_NHE, position_N)
    return g_NHE.flatten(1)


def _rotate(x_NHE: Tensor, rotary: Rotary, position_N: Tensor, inverse: bool) -> Tensor:
    if rotary is None:
        return x_NHE
    if core_calls.supports(x_NHE):
        return core_calls.rotary_derivative(x_NHE, rotary, position_N, inverse)
    return rotate(x_NHE, (rotary[0][position_N], rotary[1][position_N]), inverse)


def feed_forward_jvp(cache: FeedForwardCache, up_NF: Tensor, gate_NF: Tensor | None, position_N: Tensor) -> Tensor:
    """Tangents [N, F] of the inner activation, from those of the outputs of the up-projection and the gate.

    The result overwrites up_NF. gate_NF is None where there is no gate.
    """
    if core_calls.supports(up_NF):
        return core_calls.activation_derivative(cache, up_NF, gate_NF, position_N, cotangent=False)[0]
    up_NF *= cache.up_slope_TF[position_N]
    if gate_NF is not None and cache.gate_slope_TF is not None:
        up_NF.addcmul_(gate_NF, cache.gate_slope_TF[position_N])
    return up_NF


def feed_forward_vjp(cache: FeedForwardCache, g_NF: Tensor, position_N: Tensor) -> tuple[Tensor, Tensor | None]:
    """(up_NF, gate_NF): cotangents of the outputs of the up-projection and the gate; gate_NF is None without a gate.

    g_NF: cotangents of the inner activation; up_NF overwrites it.
    """
    if core_calls.supports(g_NF):
        gate_NF = None if cache.gate_slope_TF is None else torch.empty_like(g_NF)
        return core_calls.activation_derivative(cache, g_NF, gate_NF, position_N, cotangent=True)
    gate_NF = None if cache.gate_slope_TF is None else g_NF * cache.gate_slope_TF[position_N]
    return g_NF.mul_(cache.up_slope_TF[position_N]), gate_NF


def attention_jvp(
    cache: AttentionCache, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor,
    queries: RowLayout, keys: RowLayout, target: RowLayout,
) -> Tensor:  # fmt: skip
    """mixed_NO: tangents of the head outputs on the rows of `target`, from those of queries, keys and values.

    queries: the layout of query_NHE. keys: the layout of key_NKE and value_NKE. A position of an item that has no row
    in these layouts has tangents of zero. With q, k, v, probabilities P, slope and head outputs O from the forward
    cache, and the tangents dq, dk, dv:
    A = slope * (dq k^T + q dk^T) * scale;  dO = A v + P dv - rowsum(A) O.
    """
    out = target.new_rows(query_NHE, cache.spec.heads, query_NHE.shape[2])
    if core_calls.supports_attention(out):
        rows = query_NHE, key_NKE, value_NKE, out
        core_calls.attention_derivative(cache, rows, (queries, keys, target), cotangent=False)
        return out.flatten(1)
    for group in group_items(queries, keys, target, _max_scores(out, len(target.starts)), out.device):
        _group_jvp(cache, group, query_NHE, key_NKE, value_NKE, out)
    return out.flatten(1)


def attention_vjp(
    cache: AttentionCache, mixed_NHE: Tensor, source: RowLayout, queries: RowLayout, keys: RowLayout
) -> tuple[Tensor, Tensor, Tensor]:
    """(query_NHE, key_NKE, value_NKE): cotangents of queries, keys and values, from those of the head outputs.

    source: the layout of mixed_NHE, the cotangents dO of the head outputs. queries: the layout of query_NHE. keys: the
    layout of key_NKE and value_NKE. With the other names of `attention_jvp`:
    dS = slope * (dO v^T - rowsum(dO O)) * scale;  dq = dS k, dk = dS^T q, dv = P^T dO; dk and dv are sums over the
    query heads that share the key head.
    """
    width = mixed_NHE.shape[2]
    query = queries.new_rows(mixed_NHE, cache.spec.heads, width)
    key = keys.new_rows(mixed_NHE, cache.spec.key_heads, width)
    value = keys.new_rows(mixed_NHE, cache.spec.key_heads, width)
    if core_calls.supports_attention(mixed_NHE):
        rows = query, key, value, mixed_NHE
        core_calls.attention_derivative(cache, rows, (queries, keys, source), cotangent=True)
        return query, key, value
    for group in group_items(queries, keys, source, _max_scores(mixed_NHE, len(source.starts)), query.device):
        _group_vjp(cache, group, mixed_NHE, query, key, value)
    return query, key, value


def _max_scores(x_NHE: Tensor, items: int) -> int:
    """The most attention scores of one head that may be in memory: SCORES * max(N, items) * E.

    items: the number of items whose rows x_NHE has; an item may have no row.
    """
    return SCORES * max(len(x_NHE), items) * x_NHE.shape[2]


def _group_jvp(
    cache: AttentionCache, group: ItemGroup, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, out_NHE: Tensor
) -> None:
    """`attention_jvp` for the items of one group, written into their rows of out_NHE. C in comments: these items."""
    dq = _by_key_head(group.query.scatter(query_NHE), cache)
    dk = group.key.scatter(key_NKE).transpose(0, 1)  # [K, C * S, E]
    dv = group.value.scatter(value_NKE).transpose(0, 1).reshape(len(dk), group.span, -1)  # [K, S, C * E]
    q, mixed, slope, probability = _group_cache(cache, group)
    key, value = cache.key_KTE[:, : group.span], cache.value_KTE[:, : group.span]
    scale = cache.spec.scale
    # a [K, G * M, C, S]: q dk^T multiplies the cached queries with each item's key tangents, dq k^T each item's query
    # tangents with the cached keys.
    a = (dq @ key.mT).view(len(dk), -1, group.items * group.span).baddbmm_(q, dk.mT, beta=scale, alpha=scale)
    a = a.unflatten(2, (group.items, group.span)).mul_(slope[:, :, None])
    found = (a.flatten(1, 2) @ value).view(*a.shape[:3], -1)
    found -= a.sum(-1, keepdim=True) * mixed[:, :, None]
    found.flatten(2).baddbmm_(probability, dv)
    group.mixed.gather(_by_row(found, cache), out_NHE)


def _group_vjp(
    cache: AttentionCache, group: ItemGroup, mixed_NHE: Tensor, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor
) -> None:
    """`attention_vjp` for the items of one group, written into their rows of query_NHE, key_NKE and value_NKE.

    C in comments: these items.
    """
    g = _by_key_head(group.mixed.scatter(mixed_NHE), cache)
    q, mixed, slope, probability = _group_cache(cache, group)
    key, value = cache.key_KTE[:, : group.span], cache.value_KTE[:, : group.span]
    by_item = g.view(*q.shape[:2], group.items, -1)  # [K, G * M, C, E]
    delta = (by_item * mixed[:, :, None]).sum(-1, keepdim=True)
    ds = (g @ value.mT).view(*q.shape[:2], group.items, group.span)
    ds = ds.sub_(delta).mul_(slope[:, :, None]).mul_(cache.spec.scale)
    dq = (ds.flatten(1, 2) @ key).view_as(by_item)
    group.query.gather(_by_row(dq, cache), query_NHE)
    group.key.gather((ds.flatten(2).mT @ q).transpose(0, 1), key_NKE)  # the product is [K, C * S, E]
    dv = probability.mT @ by_item.flatten(2)  # [K, S, C * E]
    group.value.gather(dv.view(len(dv), group.span * group.items, -1).transpose(0, 1), value_NKE)


def _group_cache(cache: AttentionCache, group: ItemGroup) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(query, mixed, slope, probability) of the cache at the group's positions.

    query and mixed are [K, G * M, E]; slope and probability are [K, G * M, S]. M: the group's positions that query. S:
    its positions that are seen.
    """
    of_rows = (x[:, :, group.positions].flatten(1, 2) for x in (cache.query_KGTE, cache.mixed_KGTE))
    maps = (x[:, :, group.positions, : group.span].flatten(1, 2) for x in (cache.slope_KGTT, cache.probability_KGTT))
    return (*of_rows, *maps)  # type: ignore[return-value]


def _by_key_head(block: Tensor, cache: AttentionCache) -> Tensor:
    """[K, G * M * C, E] from a block [M * C, H, E]. M: the group's positions that query. C: its items."""
    heads = cache.query_KGTE.shape[:2]
    by_head: Tensor = block.unflatten(1, heads)
    return by_head.permute(1, 2, 0, 3).reshape(heads[0], -1, block.shape[2])


def _by_row(found: Tensor, cache: AttentionCache) -> Tensor:
    """[M * C, H, E] from [K, G * M, C, E]: the inverse of `_by_key_head`."""
    return found.view(*cache.query_KGTE.shape[:2], -1, found.shape[3]).permute(2, 0, 1, 3).flatten(1, 2)
