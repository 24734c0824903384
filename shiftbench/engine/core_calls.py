"""Calls of the compiled core: each computes one step of the engine.

The steps are those of part_derivatives.py, forward.py and decoding.py, and the products that the core computes itself.
Unlike the functions of shiftbench.ops these do not check their arguments, because the engine made the tensors itself.
Shape suffixes: see shiftbench/engine/__init__.py.
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
    """Whether the core computes derivatives of norms, rotations and activations on rows of this dtype and device.

    It does in float32 and float64, on a CPU, and on a GPU where the core was built with CUDA.
    """
    return rows.dtype in (torch.float32, torch.float64) and (rows.device.type == "cpu" or cuda.serves(rows))


def supports_attention(rows: Tensor) -> bool:
    """Whether the core computes attention, its derivatives, and the forward pass's norms and rotations.

    It does on rows in float32 and float64 on a CPU. On a GPU the answer is False: there attention is faster by torch,
    whose derivatives of it use the dense blocks of dense_blocks.py.
    """
    return rows.device.type == "cpu" and supports(rows)


def _core(rows: Tensor) -> ModuleType:
    return cuda if rows.is_cuda else _C


def norm_derivative(cache: NormCache, d: Tensor, position_N: Tensor, cotangent: bool) -> Tensor:
    """The derivative of a norm: tangents of its output from tangents d of its input, or the other way with cotangents.

    With `cotangent` the function is part_derivatives.norm_vjp: d are cotangents of the output, and cotangents of the
    input come back. Without it, the function is part_derivatives.norm_jvp. d: [N, width], or [N, heads, width] where
    each head is normed by itself. position_N: the position of each row.
    """
    out = torch.empty_like(d)
    spec = cache.norm
    _core(d).norm_derivative(d, cache.hat, cache.rho, spec.gain_D, position_N, out, spec.centred, cotangent)
    return out


def rotary_derivative(x_NHE: Tensor, rotary: tuple[Tensor, Tensor], position_N: Tensor, inverse: bool) -> Tensor:
    """Rotates each row's heads in place by the angles of the row's position, and returns x_NHE.

    rotary: (cos_TE, sin_TE) of each position. position_N: the position of each row. inverse: rotate by the negative
    angles.
    """
    _core(x_NHE).rotary_derivative(x_NHE, *rotary, position_N, inverse)
    return x_NHE


def activation_derivative(
    cache: FeedForwardCache, up_NF: Tensor, gate_NF: Tensor | None, position_N: Tensor, cotangent: bool
) -> tuple[Tensor, Tensor | None]:
    """(up_NF, gate_NF) after the core's feed_forward_jvp or feed_forward_vjp (part_derivatives.py), computed in place.

    Without `cotangent`, up_NF and gate_NF hold tangents of the up-projection's and the gate's output; tangents of the
    inner activation overwrite up_NF, and gate_NF is only read. With `cotangent`, up_NF holds cotangents of the inner
    activation; cotangents of the up-projection's output overwrite up_NF, and those of the gate's output are written
    into gate_NF. gate_NF is None where there is no gate.
    """
    _core(up_NF).activation_derivative(up_NF, gate_NF, cache.up_slope_TF, cache.gate_slope_TF, position_N, cotangent)
    return up_NF, gate_NF


def merges_gate(inner: FeedForward, rows: Tensor) -> bool:
    """Whether `gate_up_derivative` supports this network on such rows.

    It does where the rows are on a CPU, the network has a gate, and the core can read the weights of gate and
    up-projection without a copy (`_reads`). A GPU multiplies so fast that merging the weights for a few rows would not
    pay.
    """
    return inner.gate is not None and all(_reads(linear.weight_IO, rows) for linear in (inner.gate, inner.up))


def _reads(weight_IO: Tensor, rows: Tensor) -> bool:
    """Whether the core's own products can multiply such rows by a weight without copying the weight.

    That is so where the rows are float32 or float64 on a CPU, and the weight has their dtype and a contiguous
    transpose, as that of a torch.nn.Linear has.
    """
    return supports_attention(rows) and weight_IO.dtype == rows.dtype and weight_IO.T.is_contiguous()


def gate_up_derivative(
    cache: FeedForwardCache, inner: FeedForward, x: Tensor, position_N: Tensor, cotangent: bool
) -> Tensor:
    """The derivative of the inner activation by the network's input, as one product instead of two for each row.

    The weights of gate and up-projection, times their slopes, are added into one matrix for each position
    (docs/mathematics.md, section "How it is computed"). Without `cotangent`, x [N, D] are tangents of the input, and
    tangents [N, F] of the inner activation come back. With `cotangent`, x [N, F] are cotangents of the inner
    activation, and cotangents [N, D] of the input come back. position_N: the position of each row.
    """
    assert inner.gate is not None and cache.gate_slope_TF is not None
    gate_IO, up_IO = inner.gate.weight_IO, inner.up.weight_IO
    out = x.new_empty(len(x), gate_IO.shape[0 if cotangent else 1])
    slopes = cache.gate_slope_TF, cache.up_slope_TF
    _C.merged_projection_derivative(x, gate_IO.T, up_IO.T, *slopes, position_N, out, cotangent, torch.get_num_threads())
    return out


def thin_product(x_NI: Tensor, weight_IO: Tensor) -> Tensor:
    """x_NI @ weight_IO for a small number of rows, where the time is that of reading the weight once.

    The core computes it where it can read the weight without a copy (`_reads`); a row's result then does not depend on
    the other rows, to the last bit. Everywhere else product.product computes it.
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
    """The core's part_derivatives.attention_vjp if `cotangent`, else attention_jvp. It writes its results into `rows`.

    rows: query_NHE, key_NKE, value_NKE, mixed_NHE. Without `cotangent` they are tangents: the first three are read, and
    mixed_NHE is written. With `cotangent` they are cotangents: mixed_NHE is read, and the first three are written.
    layouts: that of the query rows, that of the key and value rows, and that of the mixed rows.
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
    """mixed_NHE: what decoding.attend returns, computed by the core, where no row's result depends on another row.

    at_2N: int64, the first position of the caches that each row sees, and the end (exclusive). scale: factor of
    attention's logits. cap: soft cap of the logits; None: no cap.
    """
    out_NHE = torch.empty_like(query_NHE)
    _C.cached_attention(query_NHE, key_KTE, value_KTE, at_2N, out_NHE, scale, cap or 0.0)
    return out_NHE


def apply_norm(norm: Norm, x: Tensor) -> tuple[Tensor, NormCache]:
    """(the norm's output, the norm's cache) as forward.apply_norm returns them, computed by the core.

    x: [..., width]. The output has the shape of x.
    """
    x = x.contiguous()
    out, hat, rho = torch.empty_like(x), torch.empty_like(x), x.new_empty(*x.shape[:-1], 1)
    _C.norm_forward(x, norm.gain_D, norm.bias_D, hat, rho, out, norm.eps, norm.centred, torch.get_num_threads())
    return out, NormCache(norm, hat, rho)


def split_heads(x_TO: Tensor, width: int, rotary: Rotary) -> Tensor:
    """x_HTE as forward.split_heads returns it, computed by the core: x_TO split into heads and rotated.

    width: columns of one head. rotary: (cos_TE, sin_TE) of each position; None: no rotation.
    """
    x_HTE = x_TO.new_empty(x_TO.shape[1] // width, len(x_TO), width)
    cos_TE, sin_TE = (None, None) if rotary is None else rotary
    _C.split_heads(x_TO.contiguous(), cos_TE, sin_TE, x_HTE, torch.get_num_threads())
    return x_HTE


def attend_causally(
    spec: Attention, query_KGTE: Tensor, key_KTE: Tensor, value_KTE: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(mixed_KGTE, probability_KGTT, slope_KGTT) as forward.attend_causally returns them, computed by the core."""
    mixed_KGTE = torch.empty_like(query_KGTE)
    probability_KGTT = query_KGTE.new_empty(*query_KGTE.shape[:3], key_KTE.shape[1])
    slope_KGTT = None if spec.cap is None else torch.empty_like(probability_KGTT)
    out, options = (probability_KGTT, slope_KGTT, mixed_KGTE), (spec.window or 0, spec.scale, spec.cap or 0.0)
    _C.causal_attention_forward(query_KGTE, key_KTE, value_KTE, *out, *options, torch.get_num_threads())
    return mixed_KGTE, probability_KGTT, probability_KGTT if slope_KGTT is None else slope_KGTT
