"""Derivatives of a layer's parts, in rows: what stands between its matrix products (DESIGN 2).

A tangent is what a change of the input does to the output, a cotangent what a change of the result owes to the input.
The norm's and the rotation's derivatives are (but for the gain's place and the angle's sign) the same for both.
position_N: the position of each row; what was kept is read there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench.engine import core
from shiftbench.engine.kept import KeptAttention, KeptFeedForward, KeptNorm, rotated
from shiftbench.engine.rows import Stretches

Rotary = tuple[Tensor, Tensor] | None


def norm_tangent(kept: KeptNorm | None, d_ND: Tensor, position_N: Tensor) -> Tensor:
    """Tangent of the norm's output; where there is no norm, d_ND itself."""
    if kept is None:
        return d_ND
    if core.serves(d_ND):
        return core.norm(kept, d_ND, position_N, cotangent=False)
    return _normed(kept, d_ND, position_N) * kept.norm.gain_D


def norm_cotangent(kept: KeptNorm | None, g_ND: Tensor, position_N: Tensor) -> Tensor:
    """Cotangent of the norm's input; where there is no norm, g_ND itself."""
    if kept is None:
        return g_ND
    if core.serves(g_ND):
        return core.norm(kept, g_ND, position_N, cotangent=True)
    return _normed(kept, g_ND * kept.norm.gain_D, position_N)


def _normed(kept: KeptNorm, d: Tensor, position_N: Tensor) -> Tensor:
    """rho (d - mean(d) - hat mean(d hat)), symmetric in d; without mean(d) where the norm does not centre."""
    hat, rho = kept.hat[position_N], kept.rho[position_N]
    along = (d * hat).mean(-1, keepdim=True)
    d = d - d.mean(-1, keepdim=True) if kept.norm.centred else d
    return (d - hat * along) * rho


def heads_tangent(kept: KeptNorm | None, d_NO: Tensor, position_N: Tensor, rotary: Rotary, heads: int) -> Tensor:
    """d_NHE of queries or keys as attention meets them: through their norm, if any, and their rotation."""
    groups = (heads, d_NO.shape[1] // heads)
    if kept is None:
        d_NHE = d_NO.unflatten(1, groups)
    elif kept.hat.ndim == 2:  # a norm over all heads together
        d_NHE = norm_tangent(kept, d_NO, position_N).unflatten(1, groups)
    else:
        d_NHE = norm_tangent(kept, d_NO.unflatten(1, groups), position_N)
    return _turned(d_NHE, rotary, position_N, back=False)


def heads_cotangent(kept: KeptNorm | None, g_NHE: Tensor, position_N: Tensor, rotary: Rotary) -> Tensor:
    """g_NO of the projection's output, from the cotangent of queries or keys as attention met them."""
    g_NHE = _turned(g_NHE, rotary, position_N, back=True)
    if kept is not None:
        over_heads = kept.hat.ndim == 2
        g_NHE = norm_cotangent(kept, g_NHE.flatten(1) if over_heads else g_NHE, position_N)
    return g_NHE.flatten(1)


def _turned(x_NHE: Tensor, rotary: Rotary, position_N: Tensor, back: bool) -> Tensor:
    if rotary is None:
        return x_NHE
    if core.serves(x_NHE):
        return core.rotate(x_NHE, rotary, position_N, back)
    return rotated(x_NHE, (rotary[0][position_N], rotary[1][position_N]), back)


def feed_forward_tangent(kept: KeptFeedForward, up_NF: Tensor, gate_NF: Tensor | None, position_N: Tensor) -> Tensor:
    """Tangent of the inner activation, made in up_NF."""
    if core.serves(up_NF):
        return core.gate(kept, up_NF, gate_NF, position_N, cotangent=False)[0]
    up_NF *= kept.up_slope_TF[position_N]
    if gate_NF is not None and kept.gate_slope_TF is not None:
        up_NF.addcmul_(gate_NF, kept.gate_slope_TF[position_N])
    return up_NF


def feed_forward_cotangent(kept: KeptFeedForward, g_NF: Tensor, position_N: Tensor) -> tuple[Tensor, Tensor | None]:
    """Cotangents of the up- and of the gate-projection's output; the latter None where there is no gate."""
    if core.serves(g_NF):
        gate_NF = None if kept.gate_slope_TF is None else torch.empty_like(g_NF)
        return core.gate(kept, g_NF, gate_NF, position_N, cotangent=True)
    gate_NF = None if kept.gate_slope_TF is None else g_NF * kept.gate_slope_TF[position_N]
    return g_NF.mul_(kept.up_slope_TF[position_N]), gate_NF


def attention_tangent(
    kept: KeptAttention, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor,
    queries: Stretches, keys: Stretches, target: Stretches,
) -> Tensor:  # fmt: skip
    """mixed_NO on the target's rows, from the tangents of queries, keys and values on theirs.

    A = slope * (dq k^T + q dk^T) * scale;  dO = A v + P dv - rowsum(A) O.
    """
    groups = kept.query_KGTE.shape[:2]
    out = target.empty(query_NHE, kept.spec.heads, query_NHE.shape[2])
    if core.serves(out):
        core.attention(kept, (query_NHE, key_NKE, value_NKE, out), (queries, keys, target), cotangent=False)
        return out.flatten(1)
    for item, (first, last) in enumerate(zip(target.starts, target.stops, strict=True)):
        q_first, q_last = queries.starts[item], queries.stops[item]
        k_first, k_last = keys.starts[item], keys.stops[item]
        here = target.of(item, first, last)
        dq_KME = _by_group(query_NHE[queries.of(item, q_first, q_last)], groups)
        dk_KSE = key_NKE[keys.of(item, k_first, k_last)].transpose(0, 1)
        dv_KSE = value_NKE[keys.of(item, k_first, k_last)].transpose(0, 1)
        seen = slice(0, last)
        rows = slice(first, last)
        by_query = dq_KME @ kept.key_KTE[:, seen].mT
        if (q_first, q_last) == (first, last):
            a = by_query
        else:
            a = query_NHE.new_zeros(groups[0], groups[1] * (last - first), last)
            a_KGMT, by_KGMT = (
                a.unflatten(1, (groups[1], last - first)),
                by_query.unflatten(1, (groups[1], q_last - q_first)),
            )
            a_KGMT[:, :, q_first - first : q_last - first] = by_KGMT
        a[..., k_first:k_last] += kept.query_KGTE[:, :, rows].flatten(1, 2) @ dk_KSE.mT
        a *= kept.slope_KGTT[:, :, rows, seen].flatten(1, 2)
        a *= kept.spec.scale
        mixed = a @ kept.value_KTE[:, seen]
        mixed -= a.sum(-1, keepdim=True) * kept.mixed_KGTE[:, :, rows].flatten(1, 2)
        mixed += kept.probability_KGTT[:, :, rows, k_first:k_last].flatten(1, 2) @ dv_KSE
        out[here] = mixed.view(kept.spec.heads, last - first, kept.spec.head_width).transpose(0, 1)
    return out.flatten(1)


def attention_cotangent(
    kept: KeptAttention, mixed_NHE: Tensor, source: Stretches, queries: Stretches, keys: Stretches
) -> tuple[Tensor, Tensor, Tensor]:
    """(query_NHE, key_NKE, value_NKE) on the rows of `queries` and of `keys`, from that of the heads' outputs.

    dS = slope * (dO v^T - rowsum(dO O)) * scale;  dq = dS k, dk = dS^T q, dv = P^T dO, these two summed over a group.
    """
    groups = kept.query_KGTE.shape[:2]
    width = mixed_NHE.shape[2]
    query = queries.empty(mixed_NHE, kept.spec.heads, width)
    key = keys.empty(mixed_NHE, groups[0], width)
    value = keys.empty(mixed_NHE, groups[0], width)
    if core.serves(mixed_NHE):
        core.attention(kept, (query, key, value, mixed_NHE), (queries, keys, source), cotangent=True)
        return query, key, value
    for item, (first, last) in enumerate(zip(source.starts, source.stops, strict=True)):
        rows, seen = slice(first, last), slice(0, last)
        g_KME = _by_group(mixed_NHE[source.of(item, first, last)], groups)
        delta = (g_KME * kept.mixed_KGTE[:, :, rows].flatten(1, 2)).sum(-1, keepdim=True)
        ds = g_KME @ kept.value_KTE[:, seen].mT
        ds -= delta
        ds *= kept.slope_KGTT[:, :, rows, seen].flatten(1, 2)
        ds *= kept.spec.scale
        q_first, q_last = queries.starts[item], queries.stops[item]
        k_first, k_last = keys.starts[item], keys.stops[item]
        of_query = ds.unflatten(1, (groups[1], last - first))[:, :, q_first - first : q_last - first].flatten(1, 2)
        dq = of_query @ kept.key_KTE[:, seen]
        query[queries.of(item, q_first, q_last)] = dq.view(kept.spec.heads, q_last - q_first, width).transpose(0, 1)
        dk = ds[..., k_first:k_last].mT @ kept.query_KGTE[:, :, rows].flatten(1, 2)
        dv = kept.probability_KGTT[:, :, rows, k_first:k_last].flatten(1, 2).mT @ g_KME
        key[keys.of(item, k_first, k_last)] = dk.transpose(0, 1)
        value[keys.of(item, k_first, k_last)] = dv.transpose(0, 1)
    return query, key, value


def _by_group(x_MHE: Tensor, groups: torch.Size) -> Tensor:
    """[K, G * M, E]: the rows of the heads that share a key stand together."""
    return x_MHE.transpose(0, 1).unflatten(0, groups).flatten(1, 2)
