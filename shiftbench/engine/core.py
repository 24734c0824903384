"""The engine's door to the compiled core: functions of stages.py and forward.py, each one pass; its own products.

Unlike ops.py it checks nothing: the engine made all arguments itself, contiguous and of one dtype.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.engine.kept import KeptAttention, KeptFeedForward, KeptNorm, Rotary
from shiftbench.engine.product import product
from shiftbench.engine.rows import Stretches
from shiftbench.models.block import Attention, FeedForward, Norm
from shiftbench.ops import cuda


def serves(rows: Tensor) -> bool:
    """Whether the core computes on these rows."""
    return rows.dtype in (torch.float32, torch.float64) and (rows.device.type == "cpu" or cuda.serves(rows))


def attends(rows: Tensor) -> bool:
    """Whether it does so for attention too: a GPU is better served by batched matrix products (padded.py)."""
    return rows.device.type == "cpu" and serves(rows)


def _core(rows: Tensor) -> ModuleType:
    return cuda if rows.is_cuda else _C


def norm(kept: KeptNorm, d: Tensor, position_N: Tensor, cotangent: bool) -> Tensor:
    """stages.norm_tangent or norm_cotangent."""
    out = torch.empty_like(d)
    spec = kept.norm
    _core(d).norm_rows(d, kept.hat, kept.rho, spec.gain_D, position_N, out, spec.centred, cotangent)
    return out


def rotate(x_NHE: Tensor, rotary: tuple[Tensor, Tensor], position_N: Tensor, back: bool) -> Tensor:
    """Heads turned in place by the angles of their row's position."""
    _core(x_NHE).rotate_rows(x_NHE, *rotary, position_N, back)
    return x_NHE


def gate(
    kept: KeptFeedForward, up_NF: Tensor, gate_NF: Tensor | None, position_N: Tensor, cotangent: bool
) -> tuple[Tensor, Tensor | None]:
    """stages.feed_forward_tangent, made in up_NF; or feed_forward_cotangent of up_NF, its gate part in gate_NF."""
    _core(up_NF).gate_rows(up_NF, gate_NF, kept.up_slope_TF, kept.gate_slope_TF, position_N, cotangent)
    return up_NF, gate_NF


def merges(inner: FeedForward, rows: Tensor) -> bool:
    """Whether `gated` serves this network: a GPU's products are too fast to lay out weights for a few rows."""
    return inner.gate is not None and all(_reads(linear.weight_IO, rows) for linear in (inner.gate, inner.up))


def _reads(weight_IO: Tensor, rows: Tensor) -> bool:
    """Whether the core's own products read a weight as it lies, for such rows on a CPU."""
    return attends(rows) and weight_IO.dtype == rows.dtype and weight_IO.T.is_contiguous()


def gated(kept: KeptFeedForward, inner: FeedForward, x: Tensor, position_N: Tensor, cotangent: bool) -> Tensor:
    """Both projections with their slopes, in one product: inner_NF of tangents x_ND, or h_ND of cotangents x_NF."""
    assert inner.gate is not None and kept.gate_slope_TF is not None
    gate_IO, up_IO = inner.gate.weight_IO, inner.up.weight_IO
    out = x.new_empty(len(x), gate_IO.shape[0 if cotangent else 1])
    slopes = kept.gate_slope_TF, kept.up_slope_TF
    _C.gated_rows(x, gate_IO.T, up_IO.T, *slopes, position_N, out, cotangent, torch.get_num_threads())
    return out


def thin_product(x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """x_NI @ weight_IO of few rows, at the rate that memory gives the weights. A row's numbers are those it has alone.

    For the dtypes and devices of torch.mm; only what the core reads is faster.
    """
    if not _reads(weight_IO, x_NI):
        return product(x_NI, weight_IO)
    out_NO = x_NI.new_empty(len(x_NI), weight_IO.shape[1])
    _C.thin_rows(x_NI.contiguous(), weight_IO.T, out_NO)
    return out_NO


def attention(
    kept: KeptAttention, rows: tuple[Tensor, Tensor, Tensor, Tensor], stretches: tuple[Stretches, Stretches, Stretches],
    cotangent: bool,
) -> None:  # fmt: skip
    """stages.attention_tangent or attention_cotangent. rows: query, key, value, mixed; stretches: query, key, mixed."""
    held = [kept.query_KGTE, kept.key_KTE, kept.value_KTE, kept.mixed_KGTE, kept.probability_KGTT, kept.slope_KGTT]
    tables = [stretch.table for stretch in stretches]
    _C.attention_rows(held, kept.spec.scale, list(rows), tables, cotangent, torch.get_num_threads())


def attend(
    query_NHE: Tensor, key_KTE: Tensor, value_KTE: Tensor, at_2N: Tensor, scale: float, cap: float | None
) -> Tensor:
    """decoding.attend, row by row: none depends on another."""
    out_NHE = torch.empty_like(query_NHE)
    _C.attend_rows(query_NHE, key_KTE, value_KTE, at_2N, out_NHE, scale, cap or 0.0)
    return out_NHE


def normed(norm: Norm, x: Tensor) -> tuple[Tensor, KeptNorm]:
    """forward.normed."""
    x = x.contiguous()
    out, hat, rho = torch.empty_like(x), torch.empty_like(x), x.new_empty(*x.shape[:-1], 1)
    _C.norm_forward(x, norm.gain_D, norm.bias_D, hat, rho, out, norm.eps, norm.centred, torch.get_num_threads())
    return out, KeptNorm(norm, hat, rho)


def heads(x_TO: Tensor, width: int, rotary: Rotary) -> Tensor:
    """x_HTE: heads apart, turned by their position's angles."""
    x_HTE = x_TO.new_empty(x_TO.shape[1] // width, len(x_TO), width)
    cos_TE, sin_TE = (None, None) if rotary is None else rotary
    _C.heads_forward(x_TO.contiguous(), cos_TE, sin_TE, x_HTE, torch.get_num_threads())
    return x_HTE


def mix(spec: Attention, query_KGTE: Tensor, key_KTE: Tensor, value_KTE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mixed_KGTE, probability_KGTT, slope_KGTT) of positions that see all before them, or those of their window."""
    mixed_KGTE = torch.empty_like(query_KGTE)
    probability_KGTT = query_KGTE.new_empty(*query_KGTE.shape[:3], key_KTE.shape[1])
    slope_KGTT = None if spec.cap is None else torch.empty_like(probability_KGTT)
    made, how = (probability_KGTT, slope_KGTT, mixed_KGTE), (spec.window or 0, spec.scale, spec.cap or 0.0)
    _C.mix_forward(query_KGTE, key_KTE, value_KTE, *made, *how, torch.get_num_threads())
    return mixed_KGTE, probability_KGTT, probability_KGTT if slope_KGTT is None else slope_KGTT
