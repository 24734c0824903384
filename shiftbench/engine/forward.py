"""One forward pass, with what of it the derivatives need (kept.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from shiftbench.engine import core
from shiftbench.engine.kept import KeptAttention, KeptBlock, KeptFeedForward, KeptNorm, Rotary
from shiftbench.engine.product import product
from shiftbench.models.block import Attention, Block, FeedForward, Linear, Norm, Transformer


def apply(linear: Linear, x: Tensor, product: Callable[[Tensor, Tensor], Tensor] = product) -> Tensor:
    """x @ weight + bias."""
    out = product(x, linear.weight_IO)
    return out if linear.bias_O is None else out.add_(linear.bias_O)


def normed(norm: Norm | None, x: Tensor) -> tuple[Tensor, KeptNorm | None]:
    """(the norm's output, what is kept of it); x itself where there is no norm."""
    if norm is None:
        return x, None
    if core.attends(x):
        return core.normed(norm, x)
    centre = x - x.mean(-1, keepdim=True) if norm.centred else x
    rho = (centre.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    hat = centre * rho
    out = hat * norm.gain_D
    return out if norm.bias_D is None else out + norm.bias_D, KeptNorm(norm, hat, rho)


def capped(logit: Tensor, cap: float | None) -> tuple[Tensor, Tensor | None]:
    """(cap * tanh(logit / cap), its slope); the logit itself and None where there is no cap."""
    if cap is None:
        return logit, None
    squashed = torch.tanh(logit / cap)
    return squashed * cap, 1 - squashed.square()


def rotated(x_NHE: Tensor, rotary: Rotary, back: bool = False) -> Tensor:
    """Heads turned by their position's angles, row n of cos_NE and sin_NE; back: by the opposite ones."""
    if rotary is None:
        return x_NHE
    cos_NE, sin_NE = rotary
    half = x_NHE.shape[-1] // 2
    cos, sin = cos_NE[:, None, :half], sin_NE[:, None, :half]
    sin = -sin if back else sin
    first, second = x_NHE[..., :half], x_NHE[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def forward(
    model: Transformer, x_TD: Tensor, blocks: Sequence[Block], keep: bool = True
) -> tuple[list[KeptBlock], Tensor]:
    """(what is kept of each block, the last one's output_TD). keep: False keeps nothing, as for a pass made again."""
    found = []
    turns: dict[torch.device, Rotary] = {}  # one table serves all layers on a device
    for block in blocks:
        x_TD = x_TD.to(block.attention.query.weight_IO.device)
        if x_TD.device not in turns:
            turns[x_TD.device] = _rotary(model, x_TD)
        kept, x_TD = _block(block, x_TD, turns[x_TD.device])
        if keep:
            found.append(kept)
    return found, x_TD


def _rotary(model: Transformer, x_TD: Tensor) -> Rotary:
    if model.rotary is None:
        return None
    cos_TE, sin_TE = model.rotary(torch.arange(len(x_TD), device=x_TD.device), x_TD)
    return cos_TE.to(x_TD).contiguous(), sin_TE.to(x_TD).contiguous()


def _block(block: Block, x_TD: Tensor, rotary: Rotary) -> tuple[KeptBlock, Tensor]:
    h_TD, before = normed(block.before_attention, x_TD)
    mixed_TD, attention = _attention(block.attention, h_TD, rotary)
    mixed_TD, after = normed(block.after_attention, mixed_TD)
    x_TD = x_TD + mixed_TD
    h_TD, before_inner = normed(block.before_feed_forward, x_TD)
    inner_TD, feed_forward = _feed_forward(block.feed_forward, h_TD)
    inner_TD, after_inner = normed(block.after_feed_forward, inner_TD)
    return KeptBlock(block, before, attention, after, before_inner, feed_forward, after_inner, rotary), x_TD + inner_TD


def _attention(spec: Attention, h_TD: Tensor, rotary: Rotary) -> tuple[Tensor, KeptAttention]:
    tokens, width = len(h_TD), spec.head_width
    query, query_norm = heads_normed(spec.query_norm, apply(spec.query, h_TD), width)
    key, key_norm = heads_normed(spec.key_norm, apply(spec.key, h_TD), width)
    groups = (spec.key_heads, spec.heads // spec.key_heads)
    query_KGTE = heads(query, width, rotary).unflatten(0, groups)
    key_KTE, value_KTE = heads(key, width, rotary), heads(apply(spec.value, h_TD), width, None)
    mixed_KGTE, probability_KGTT, slope_KGTT = mix_all(spec, query_KGTE, key_KTE, value_KTE)
    out_TD = apply(spec.out, mixed_KGTE.flatten(0, 1).transpose(0, 1).reshape(tokens, -1))
    kept = KeptAttention(
        spec, query_norm, key_norm, query_KGTE, key_KTE, value_KTE, probability_KGTT, slope_KGTT, mixed_KGTE
    )
    return out_TD, kept


def heads(x_TO: Tensor, width: int, rotary: Rotary) -> Tensor:
    """x_HTE, contiguous: heads apart, turned by their position's angles."""
    if core.attends(x_TO):
        return core.heads(x_TO, width, rotary)
    return rotated(x_TO.unflatten(1, (-1, width)), rotary).transpose(0, 1).contiguous()


def mix_all(spec: Attention, query_KGTE: Tensor, key_KTE: Tensor, value_KTE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mixed_KGTE, probability_KGTT, slope_KGTT) of positions that see all before them, or those of their window."""
    if core.attends(query_KGTE):
        return core.mix(spec, query_KGTE, key_KTE, value_KTE)
    tokens = key_KTE.shape[1]
    seen_TT = seen(spec, tokens, tokens, key_KTE.device)
    mixed_KGTE, probability_KGTT, cap_slope = mix(spec, query_KGTE, key_KTE, value_KTE, seen_TT)
    return mixed_KGTE, probability_KGTT, probability_KGTT if cap_slope is None else probability_KGTT * cap_slope


def seen(spec: Attention, queries: int, keys: int, device: torch.device) -> Tensor:
    """seen_QT, bool: which of so many positions the last of them see, each itself, what is before it, in its window."""
    place_T = torch.arange(keys, device=device)
    back_QT = place_T[keys - queries :, None] - place_T
    return (back_QT >= 0) if spec.window is None else (back_QT >= 0) & (back_QT < spec.window)


def mix(
    spec: Attention, query_KGQE: Tensor, key_KTE: Tensor, value_KTE: Tensor, seen_QT: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(mixed_KGQE, probability_KGQT, the cap's slope or None). All may have more dimensions in front; seen_QT: bool."""
    heads = query_KGQE.shape[-3:-1]
    logit_KGQT = (query_KGQE.flatten(-3, -2) @ key_KTE.mT).unflatten(-2, heads) * spec.scale
    logit_KGQT, cap_slope = capped(logit_KGQT, spec.cap)
    probability_KGQT = logit_KGQT.masked_fill_(~seen_QT, -torch.inf).softmax(-1)
    mixed_KGQE = (probability_KGQT.flatten(-3, -2) @ value_KTE).unflatten(-2, heads)
    return mixed_KGQE, probability_KGQT, cap_slope


def heads_normed(norm: Norm | None, x_TO: Tensor, width: int) -> tuple[Tensor, KeptNorm | None]:
    """(queries or keys after their norm, what is kept of it): over each head, or over all where the gain is so wide."""
    if norm is None:
        return x_TO, None
    over_heads = len(norm.gain_D) == x_TO.shape[1] and x_TO.shape[1] != width
    out, kept = normed(norm, x_TO if over_heads else x_TO.unflatten(1, (-1, width)))
    return out.reshape(len(x_TO), -1), kept


def _feed_forward(spec: FeedForward, h_TD: Tensor) -> tuple[Tensor, KeptFeedForward]:
    up_TF = apply(spec.up, h_TD)
    if spec.gate is None:
        active_TF, slope_TF = _with_slope(spec, up_TF, torch.ones_like(up_TF))
        return apply(spec.down, active_TF), KeptFeedForward(slope_TF, None)
    active_TF, slope_TF = _with_slope(spec, apply(spec.gate, h_TD), up_TF)
    return apply(spec.down, active_TF * up_TF), KeptFeedForward(active_TF, slope_TF)


def _with_slope(spec: FeedForward, x: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The activation, and its derivative times something, whatever function it is: it acts number by number."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        active = spec.activation(x)
        (slope,) = torch.autograd.grad(active, x, times)
    return active.detach(), slope
