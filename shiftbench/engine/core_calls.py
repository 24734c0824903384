"""Calls of the compiled core: one pass over memory for each function of part_derivatives.py and forward.py.

Also the products that the core computes itself. Unlike shiftbench.ops these functions check no argument: the engine
made all of them, contiguous and of one dtype. Shape suffixes: see shiftbench/engine/__init__.py.
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.engine.forward_cache import AttentionCache, FeedForwardCache, NormCache, Rotary
from shiftbench.engine.product import product
from shiftbench.engine.row_layout import RowLayout
from shiftbench.models.block import Attention, FeedForward, Norm
from shiftbench.ops import cuda


def supports(rows: Tensor) -> bool:
    """Whether the core computes norms, rotations and activations on rows of this dtype and device."""
    return rows.dtype in (torch.float32, torch.float64) and (rows.device.type == "cpu" or cuda.serves(rows))


def supports_attention(rows: Tensor) -> bool:
    """Whether the core computes attention on such rows: on a CPU. A GPU is faster by dense_blocks.py."""
    return rows.device.type == "cpu" and supports(rows)


def _core(rows: Tensor) -> ModuleType:
    return cuda if rows.is_cuda else _C


def norm_derivative(cache: NormCache, d: Tensor, position_N: Tensor, cotangent: bool) -> Tensor:
    """part_derivatives.norm_vjp if `cotangent`, else norm_jvp."""
    out = torch.empty_like(d)
    spec = cache.norm
    _core(d).norm_derivative(d, cache.hat, cache.rho, spec.gain_D, position_N, out, spec.centred, cotangent)
    return out


def rotary_derivative(x_NHE: Tensor, rotary: tuple[Tensor, Tensor], position_N: Tensor, inverse: bool) -> Tensor:
    """x_NHE, each row's heads rotated in place by the angles of its position; inverse: by the negative angles."""
    _core(x_NHE).rotary_derivative(x_NHE, *rotary, position_N, inverse)
    return x_NHE


def activation_derivative(
    cache: FeedForwardCache, up_NF: Tensor, gate_NF: Tensor | None, position_N: Tensor, cotangent: bool
) -> tuple[Tensor, Tensor | None]:
    """The core's feed_forward_jvp or feed_forward_vjp (part_derivatives.py), computed in place.

    Without `cotangent`: the jvp of up_NF and gate_NF; the result overwrites up_NF. With `cotangent`: the vjp of the
    cotangents that up_NF holds; the results overwrite up_NF and gate_NF.
    """
    _core(up_NF).activation_derivative(up_NF, gate_NF, cache.up_slope_TF, cache.gate_slope_TF, position_N, cotangent)
    return up_NF, gate_NF


def merges_gate(inner: FeedForward, rows: Tensor) -> bool:
    """Whether `gate_up_derivative` supports this network. It does on a CPU only: a GPU multiplies so fast that merging
    the weights for a few rows would not pay."""
    return inner.gate is not None and all(_reads(linear.weight_IO, rows) for linear in (inner.gate, inner.up))


def _reads(weight_IO: Tensor, rows: Tensor) -> bool:
    """Whether the core's own products can read a weight without a copy, for such rows on a CPU."""
    return supports_attention(rows) and weight_IO.dtype == rows.dtype and weight_IO.T.is_contiguous()


def gate_up_derivative(
    cache: FeedForwardCache, inner: FeedForward, x: Tensor, position_N: Tensor, cotangent: bool
) -> Tensor:
    """The gate's and the up-projection's derivative, with their slopes, as one product with merged weights.

    Tangents x [N, D] give inner activation tangents [N, F]; cotangents x [N, F] give input cotangents [N, D].
    docs/mathematics.md, section "How it is computed".
    """
    assert inner.gate is not None and cache.gate_slope_TF is not None
    gate_IO, up_IO = inner.gate.weight_IO, inner.up.weight_IO
    out = x.new_empty(len(x), gate_IO.shape[0 if cotangent else 1])
    slopes = cache.gate_slope_TF, cache.up_slope_TF
    _C.merged_projection_derivative(x, gate_IO.T, up_IO.T, *slopes, position_N, out, cotangent, torch.get_num_threads())
    return out


def thin_product(x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """x_NI @ weight_IO for a small number of rows, where the time is that of reading the weight once.

    A row's result does not depend on the other rows, to the last bit. Where the core cannot read the weight, this is
    product.product.
    """
    if not _reads(weight_IO, x_NI):
        return product(x_NI, weight_IO)
    out_NO = x_NI.new_empty(len(x_NI), weight_IO.shape[1])
    _C.small_batch_linear(x_NI.contiguous(), weight_IO.T, out_NO)
    return out_NO


def attention_derivative(
    cache: AttentionCache, rows: tuple[Tensor, Tensor, Tensor, Tensor], layouts: tuple[RowLayout, RowLayout, RowLayout],
    cotangent: bool,
) -> None:  # fmt: skip
    """part_derivatives.attention_vjp if `cotangent`, else attention_jvp; the results are written into `rows`.

    rows: query_NHE, key_NKE, value_NKE, mixed_NHE. layouts: of the query rows, of the key and value rows, of the mixed
    rows.
    """
    cached = [
        cache.query_KGTE,
        cache.key_KTE,
        cache.value_KTE,
        cache.mixed_KGTE,
        cache.probability_KGTT,
        cache.slope_KGTT,
    ]
    tables = [layout.table for layout in layouts]
    _C.attention_derivative(cached, cache.spec.scale, list(rows), tables, cotangent, torch.get_num_threads())


def attend_cached(
    query_NHE: Tensor, key_KTE: Tensor, value_KTE: Tensor, at_2N: Tensor, scale: float, cap: float | None
) -> Tensor:
    """decoding.attend, row by row: no row's result depends on another row."""
    out_NHE = torch.empty_like(query_NHE)
    _C.cached_attention(query_NHE, key_KTE, value_KTE, at_2N, out_NHE, scale, cap or 0.0)
    return out_NHE


def apply_norm(norm: Norm, x: Tensor) -> tuple[Tensor, NormCache]:
    """forward.apply_norm."""
    x = x.contiguous()
    out, hat, rho = torch.empty_like(x), torch.empty_like(x), x.new_empty(*x.shape[:-1], 1)
    _C.norm_forward(x, norm.gain_D, norm.bias_D, hat, rho, out, norm.eps, norm.centred, torch.get_num_threads())
    return out, NormCache(norm, hat, rho)


def split_heads(x_TO: Tensor, width: int, rotary: Rotary) -> Tensor:
    """forward.split_heads."""
    x_HTE = x_TO.new_empty(x_TO.shape[1] // width, len(x_TO), width)
    cos_TE, sin_TE = (None, None) if rotary is None else rotary
    _C.split_heads(x_TO.contiguous(), cos_TE, sin_TE, x_HTE, torch.get_num_threads())
    return x_HTE


def attend_causally(
    spec: Attention, query_KGTE: Tensor, key_KTE: Tensor, value_KTE: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """forward.attend_causally."""
    mixed_KGTE = torch.empty_like(query_KGTE)
    probability_KGTT = query_KGTE.new_empty(*query_KGTE.shape[:3], key_KTE.shape[1])
    slope_KGTT = None if spec.cap is None else torch.empty_like(probability_KGTT)
    out, options = (probability_KGTT, slope_KGTT, mixed_KGTE), (spec.window or 0, spec.scale, spec.cap or 0.0)
    _C.causal_attention_forward(query_KGTE, key_KTE, value_KTE, *out, *options, torch.get_num_threads())
    return mixed_KGTE, probability_KGTT, probability_KGTT if slope_KGTT is None else slope_KGTT
