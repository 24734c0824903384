"""The forward pass, and what it keeps of each layer for the derivatives (forward_cache.py).

Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from shiftbench.engine import core_calls
from shiftbench.engine.forward_cache import AttentionCache, FeedForwardCache, LayerCache, NormCache, Rotary
from shiftbench.engine.product import product
from shiftbench.models.block import Attention, Block, FeedForward, Linear, Norm, Transformer


def apply_linear(linear: Linear, x: Tensor, product: Callable[[Tensor, Tensor], Tensor] = product) -> Tensor:
    """x @ weight_IO + bias_O, or x @ weight_IO where there is no bias. product: multiplies x and weight_IO."""
    out = product(x, linear.weight_IO)
    return out if linear.bias_O is None else out.add_(linear.bias_O)


def apply_norm(norm: Norm | None, x: Tensor) -> tuple[Tensor, NormCache | None]:
    """(the norm's output, the norm's cache); (x, None) where `norm` is None."""
    if norm is None:
        return x, None
    if core_calls.supports_attention(x):
        return core_calls.apply_norm(norm, x)
    centre = x - x.mean(-1, keepdim=True) if norm.centred else x
    rho = (centre.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    hat = centre * rho
    out = hat * norm.gain_D
    return out if norm.bias_D is None else out + norm.bias_D, NormCache(norm, hat, rho)


def soft_cap(logit: Tensor, cap: float | None) -> tuple[Tensor, Tensor | None]:
    """(cap * tanh(logit / cap), the derivative of that by the logit); (logit, None) where `cap` is None."""
    if cap is None:
        return logit, None
    squashed = torch.tanh(logit / cap)
    return squashed * cap, 1 - squashed.square()


def rotate(x_NHE: Tensor, rotary: Rotary, inverse: bool = False) -> Tensor:
    """A copy of x_NHE in which all heads of a row are rotated by the row's angles; x_NHE itself where `rotary` is None.

    rotary: (cos_NE, sin_NE), the angles of each row of x_NHE. Entry i of a head's first half and entry i of its second
    half are rotated together. inverse: rotate by the negative angles.
    """
    if rotary is None:
        return x_NHE
    cos_NE, sin_NE = rotary
    half = x_NHE.shape[-1] // 2
    cos, sin = cos_NE[:, None, :half], sin_NE[:, None, :half]
    sin = -sin if inverse else sin
    first, second = x_NHE[..., :half], x_NHE[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def forward(
    model: Transformer, x_TD: Tensor, blocks: Sequence[Block], keep: bool = True
) -> tuple[list[LayerCache], Tensor]:
    """(the forward cache of each block, output_TD of the last block).

    x_TD: the first block's input. blocks: consecutive layers of the model. keep: where it is False, the list of caches
    is empty, for a pass whose caches are computed again later.
    """
    caches = []
    rotaries: dict[torch.device, Rotary] = {}  # one table of angles serves all layers on a device
    for block in blocks:
        x_TD = x_TD.to(block.attention.query.weight_IO.device)
        if x_TD.device not in rotaries:
            rotaries[x_TD.device] = _rotary_table(model, x_TD)
        cache, x_TD = _run_block(block, x_TD, rotaries[x_TD.device])
        if keep:
            caches.append(cache)
    return caches, x_TD


def _rotary_table(model: Transformer, x_TD: Tensor) -> Rotary:
    if model.rotary is None:
        return None
    cos_TE, sin_TE = model.rotary(torch.arange(len(x_TD), device=x_TD.device), x_TD)
    return cos_TE.to(x_TD).contiguous(), sin_TE.to(x_TD).contiguous()


def _run_block(block: Block, x_TD: Tensor, rotary: Rotary) -> tuple[LayerCache, Tensor]:
    """(the layer's forward cache, the layer's output [T, D])."""
    h_TD, before = apply_norm(block.before_attention, x_TD)
    attention_TD, attention = _run_attention(block.attention, h_TD, rotary)
    attention_TD, after = apply_norm(block.after_attention, attention_TD)
    x_TD = x_TD + attention_TD
    h_TD, before_inner = apply_norm(block.before_feed_forward, x_TD)
    inner_TD, feed_forward = _run_feed_forward(block.feed_forward, h_TD)
    inner_TD, after_inner = apply_norm(block.after_feed_forward, inner_TD)
    return LayerCache(block, before, attention, after, before_inner, feed_forward, after_inner, rotary), x_TD + inner_TD


def _run_attention(spec: Attention, h_TD: Tensor, rotary: Rotary) -> tuple[Tensor, AttentionCache]:
    """(attention's output [T, D] for its normalised input h_TD, attention's forward cache)."""
    tokens, width = len(h_TD), spec.head_width
    query, query_norm = norm_heads(spec.query_norm, apply_linear(spec.query, h_TD), width)
    key, key_norm = norm_heads(spec.key_norm, apply_linear(spec.key, h_TD), width)
    groups = (spec.key_heads, spec.heads // spec.key_heads)
    query_KGTE = split_heads(query, width, rotary).unflatten(0, groups)
    key_KTE = split_heads(key, width, rotary)
    value_KTE = split_heads(apply_linear(spec.value, h_TD), width, None)
    mixed_KGTE, probability_KGTT, slope_KGTT = attend_causally(spec, query_KGTE, key_KTE, value_KTE)
    out_TD = apply_linear(spec.out, mixed_KGTE.flatten(0, 1).transpose(0, 1).reshape(tokens, -1))
    cache = AttentionCache(
        spec, query_norm, key_norm, query_KGTE, key_KTE, value_KTE, probability_KGTT, slope_KGTT, mixed_KGTE
    )
    return out_TD, cache


def split_heads(x_TO: Tensor, width: int, rotary: Rotary) -> Tensor:
    """x_HTE, contiguous: x_TO split into heads of `width` columns, each rotated by the angles of its position.

    rotary: (cos_TE, sin_TE); None: no rotation.
    """
    if core_calls.supports_attention(x_TO):
        return core_calls.split_heads(x_TO, width, rotary)
    return rotate(x_TO.unflatten(1, (-1, width)), rotary).transpose(0, 1).contiguous()


def attend_causally(
    spec: Attention, query_KGTE: Tensor, key_KTE: Tensor, value_KTE: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(mixed_KGTE, probability_KGTT, slope_KGTT), which AttentionCache describes.

    A position sees itself and all positions before it; in a layer with a window of n positions, only itself and the n -
    1 positions before it.
    """
    if core_calls.supports_attention(query_KGTE):
        return core_calls.attend_causally(spec, query_KGTE, key_KTE, value_KTE)
    tokens = key_KTE.shape[1]
    seen_TT = seen_mask(spec, tokens, tokens, key_KTE.device)
    mixed_KGTE, probability_KGTT, cap_slope = attend(spec, query_KGTE, key_KTE, value_KTE, seen_TT)
    return mixed_KGTE, probability_KGTT, probability_KGTT if cap_slope is None else probability_KGTT * cap_slope


def seen_mask(spec: Attention, queries: int, keys: int, device: torch.device) -> Tensor:
    """seen_QT, bool: whether a querying position sees a position t.

    The T positions are the first `keys` positions of a text, and the Q querying positions are the last `queries` of
    these. A position sees itself and all positions before it; in a layer with a window of n positions, only itself and
    the n - 1 positions before it.
    """
    place_T = torch.arange(keys, device=device)
    back_QT = place_T[keys - queries :, None] - place_T
    return (back_QT >= 0) if spec.window is None else (back_QT >= 0) & (back_QT < spec.window)


def attend(
    spec: Attention, query_KGQE: Tensor, key_KTE: Tensor, value_KTE: Tensor, seen_QT: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(mixed_KGQE, probability_KGQT, the derivative of the soft cap [K, G, Q, T]), computed by torch.

    The derivative of the soft cap is None where there is no cap. seen_QT: bool, True where query q sees key t; every
    query must see a key. The other arguments may have the same further dimensions before or after K, and the results
    then have them; seen_QT is broadcast to them.
    """
    heads = query_KGQE.shape[-3:-1]
    logit_KGQT = (query_KGQE.flatten(-3, -2) @ key_KTE.mT).unflatten(-2, heads) * spec.scale
    logit_KGQT, cap_slope = soft_cap(logit_KGQT, spec.cap)
    probability_KGQT = logit_KGQT.masked_fill_(~seen_QT, -torch.inf).softmax(-1)
    mixed_KGQE = (probability_KGQT.flatten(-3, -2) @ value_KTE).unflatten(-2, heads)
    return mixed_KGQE, probability_KGQT, cap_slope


def norm_heads(norm: Norm | None, x_TO: Tensor, width: int) -> tuple[Tensor, NormCache | None]:
    """(x_TO after the norm of queries or keys, the norm's cache); (x_TO, None) where `norm` is None.

    The norm is over each head of `width` columns by itself, or over all heads together where the gain is as wide as all
    heads are.
    """
    if norm is None:
        return x_TO, None
    over_heads = len(norm.gain_D) == x_TO.shape[1] and x_TO.shape[1] != width
    out, cache = apply_norm(norm, x_TO if over_heads else x_TO.unflatten(1, (-1, width)))
    return out.reshape(len(x_TO), -1), cache


def _run_feed_forward(spec: FeedForward, h_TD: Tensor) -> tuple[Tensor, FeedForwardCache]:
    up_TF = apply_linear(spec.up, h_TD)
    if spec.gate is None:
        active_TF, slope_TF = _activate(spec, up_TF, torch.ones_like(up_TF))
        return apply_linear(spec.down, active_TF), FeedForwardCache(slope_TF, None)
    active_TF, slope_TF = _activate(spec, apply_linear(spec.gate, h_TD), up_TF)
    return apply_linear(spec.down, active_TF * up_TF), FeedForwardCache(active_TF, slope_TF)


def _activate(spec: FeedForward, x: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """(activation(x), activation'(x) * factor), both of x's shape.

    The derivative is taken by autograd, so that any activation works. An activation acts on each number by itself, so
    one backward pass gives all derivatives.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        active = spec.activation(x)
        (slope,) = torch.autograd.grad(active, x, factor)
    return active.detach(), slope
