"""Derivatives of a layer's parts, in rows: what stands between its matrix products (docs/mathematics.md).

A tangent is what a change of the input does to the output, a cotangent what a change of the result owes to the input.
The norm's and the rotation's derivatives are (but for the gain's place and the angle's sign) the same for both.
position_N: the position of each row; what was kept is read there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shiftbench.engine import core
from shiftbench.engine.forward import rotated
from shiftbench.engine.kept import KeptAttention, KeptFeedForward, KeptNorm, Rotary
from shiftbench.engine.padded import Group, groups
from shiftbench.engine.rows import Stretches

# Where the core does not serve, attention's scores take at most so many times the memory of the heads' rows.
SCORES = 8


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
    out = target.empty(query_NHE, kept.spec.heads, query_NHE.shape[2])
    if core.attends(out):
        core.attention(kept, (query_NHE, key_NKE, value_NKE, out), (queries, keys, target), cotangent=False)
        return out.flatten(1)
    for group in groups(queries, keys, target, _scores(out, len(target.starts)), out.device):
        _mix_tangents(kept, group, query_NHE, key_NKE, value_NKE, out)
    return out.flatten(1)


def attention_cotangent(
    kept: KeptAttention, mixed_NHE: Tensor, source: Stretches, queries: Stretches, keys: Stretches
) -> tuple[Tensor, Tensor, Tensor]:
    """(query_NHE, key_NKE, value_NKE) on the rows of `queries` and of `keys`, from that of the heads' outputs.

    dS = slope * (dO v^T - rowsum(dO O)) * scale;  dq = dS k, dk = dS^T q, dv = P^T dO, these two summed over a group.
    """
    width = mixed_NHE.shape[2]
    query = queries.empty(mixed_NHE, kept.spec.heads, width)
    key = keys.empty(mixed_NHE, kept.spec.key_heads, width)
    value = keys.empty(mixed_NHE, kept.spec.key_heads, width)
    if core.attends(mixed_NHE):
        core.attention(kept, (query, key, value, mixed_NHE), (queries, keys, source), cotangent=True)
        return query, key, value
    for group in groups(queries, keys, source, _scores(mixed_NHE, len(source.starts)), query.device):
        _unmix_cotangents(kept, group, mixed_NHE, query, key, value)
    return query, key, value


def _scores(x_NHE: Tensor, items: int) -> int:
    """How many scores of one head may be in memory: SCORES times the numbers of a head in these rows."""
    return SCORES * max(len(x_NHE), items) * x_NHE.shape[2]


def _mix_tangents(
    kept: KeptAttention, group: Group, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor, out_NHE: Tensor
) -> None:
    """attention_tangent of a group's items. Of their blocks, M: positions mixed for, S: positions seen, I: items."""
    dq = _by_key_head(group.query.spread(query_NHE), kept)
    dk = group.key.spread(key_NKE).transpose(0, 1)  # [K, I * S, E]
    dv = group.value.spread(value_NKE).transpose(0, 1).reshape(len(dk), group.span, -1)  # [K, S, I * E]
    q, mixed, slope, probability = _seen(kept, group)
    key, value = kept.key_KTE[:, : group.span], kept.value_KTE[:, : group.span]
    scale = kept.spec.scale
    # [K, G * M, I, S]: an item's own keys change the scores of all its queries, its queries meet everybody's keys.
    a = (dq @ key.mT).view(len(dk), -1, group.items * group.span).baddbmm_(q, dk.mT, beta=scale, alpha=scale)
    a = a.unflatten(2, (group.items, group.span)).mul_(slope[:, :, None])
    found = (a.flatten(1, 2) @ value).view(*a.shape[:3], -1)
    found -= a.sum(-1, keepdim=True) * mixed[:, :, None]
    found.flatten(2).baddbmm_(probability, dv)
    group.mixed.gather(_by_row(found, kept), out_NHE)


def _unmix_cotangents(
    kept: KeptAttention, group: Group, mixed_NHE: Tensor, query_NHE: Tensor, key_NKE: Tensor, value_NKE: Tensor
) -> None:
    """attention_cotangent of a group's items, into the last three."""
    g = _by_key_head(group.mixed.spread(mixed_NHE), kept)
    q, mixed, slope, probability = _seen(kept, group)
    key, value = kept.key_KTE[:, : group.span], kept.value_KTE[:, : group.span]
    by_item = g.view(*q.shape[:2], group.items, -1)  # [K, G * M, I, E]
    delta = (by_item * mixed[:, :, None]).sum(-1, keepdim=True)
    ds = (g @ value.mT).view(*q.shape[:2], group.items, group.span)
    ds = ds.sub_(delta).mul_(slope[:, :, None]).mul_(kept.spec.scale)
    dq = (ds.flatten(1, 2) @ key).view_as(by_item)
    group.query.gather(_by_row(dq, kept), query_NHE)
    group.key.gather((ds.flatten(2).mT @ q).transpose(0, 1), key_NKE)  # from [K, I * S, E]
    dv = probability.mT @ by_item.flatten(2)  # [K, S, I * E]
    group.value.gather(dv.view(len(dv), group.span * group.items, -1).transpose(0, 1), value_NKE)


def _seen(kept: KeptAttention, group: Group) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(query, mixed) [K, G * M, E] and (slope, probability) [K, G * M, S] of the positions that a group mixes for."""
    of_rows = (x[:, :, group.rows].flatten(1, 2) for x in (kept.query_KGTE, kept.mixed_KGTE))
    maps = (x[:, :, group.rows, : group.span].flatten(1, 2) for x in (kept.slope_KGTT, kept.probability_KGTT))
    return (*of_rows, *maps)  # type: ignore[return-value]


def _by_key_head(block: Tensor, kept: KeptAttention) -> Tensor:
    """[K, G * M * I, E] from a block [M * I, H, E]."""
    heads = kept.query_KGTE.shape[:2]
    return block.unflatten(1, heads).permute(1, 2, 0, 3).reshape(heads[0], -1, block.shape[2])


def _by_row(found: Tensor, kept: KeptAttention) -> Tensor:
    """[M * I, H, E] from [K, G * M, I, E]."""
    return found.view(*kept.query_KGTE.shape[:2], -1, found.shape[3]).permute(2, 0, 1, 3).flatten(1, 2)
