"""Checks the engine's stages against torch's derivatives, and its importance against autograd, all in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from shiftbench.engine.product import Precision
from shiftbench.explain.feedforward import principal_components
from shiftbench.models import Model
from shiftbench.ops import cuda
from shiftbench.perf import paper
from shiftbench.perf.agreement import column_error
from tests import reference
from tests.perf.gpu_bench.bench import Bench, case, importance
from tests.perf.gpu_bench.checks import bound, error, row
from tests.perf.rows import Row

EPS = 1e-5
AUTOGRAD = "float64 autograd"
# The allowed error of the worst response token, relative to its largest importance.
AT_MOST = {Precision.FLOAT32: 1e-3, Precision.TF32: 3e-2, Precision.BFLOAT16: 1e-1}


def stages(bench: Bench) -> Iterator[Row]:
    """The functions of the core that the engine uses on a GPU, each against torch's own derivatives in float64.

    They are norm_derivative, rotary_derivative and activation_derivative of shiftbench.ops.cuda. The cases are named
    norm_rows, rotate_rows and gate_rows, as in the results of earlier versions.
    """
    rows, positions, heads, width = 37, 11, 3, 2 * (bench.sizes.width // 8)
    position_N = torch.randint(0, positions, (rows,), generator=torch.Generator().manual_seed(1)).to(bench.device)
    for dtype in (torch.float32, torch.float64):
        for cotangent in (False, True):
            kind = "cotangent" if cotangent else "tangent"
            for shape in ((width,), (heads, width)):
                for centred in (False, True):
                    worst = _norm(bench, dtype, (rows, positions, *shape), position_N, centred, cotangent)
                    name = f"norm_rows, {kind}, {len(shape) + 1} dimensions{', centred' if centred else ''}"
                    yield row(name, dtype, worst, bound(dtype))
            given = rows, positions, heads, width
            yield row(f"rotate_rows, {kind}", dtype, _rotate(bench, dtype, given, position_N, cotangent), bound(dtype))
            for gated in (True, False):
                worst = _gate(bench, dtype, (rows, positions, width), position_N, cotangent, gated)
                yield row(f"gate_rows, {kind}{'' if gated else ', no gate'}", dtype, worst, bound(dtype))


def _norm(
    bench: Bench, dtype: torch.dtype, sizes: tuple[int, ...], position_N: Tensor, centred: bool, cotangent: bool
) -> float:
    rows, positions, *shape = sizes
    x_T, d, gain_D = (
        bench.random_normal(*size, seed=seed, dtype=torch.float64)
        for seed, size in enumerate([(positions, *shape), (rows, *shape), (shape[-1],)], start=2)
    )

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        centre = x - x.mean(-1, keepdim=True) if centred else x
        rho = (centre.square().mean(-1, keepdim=True) + EPS).rsqrt()
        return centre * rho, rho

    def norm(x: Tensor) -> Tensor:
        return parts(x)[0] * gain_D

    wanted = _derivative(norm, x_T[position_N], d, cotangent)
    given = [part.to(dtype) for part in (d, *parts(x_T), gain_D)]
    out = torch.empty_like(given[0])
    cuda.norm_derivative(*given, position_N, out, centred, cotangent)
    return error(out, wanted)


def _derivative(function: Callable[[Tensor], Tensor], x: Tensor, d: Tensor, cotangent: bool) -> Tensor:
    if not cotangent:
        return torch.func.jvp(function, (x,), (d,))[1]
    (found,) = torch.func.vjp(function, x)[1](d)
    return found


def _rotate(bench: Bench, dtype: torch.dtype, sizes: tuple[int, ...], position_N: Tensor, back: bool) -> float:
    rows, positions, heads, width = sizes
    angle_TE = bench.random_normal(positions, width // 2, seed=5, dtype=torch.float64).repeat(1, 2)
    x_NHE = bench.random_normal(rows, heads, width, seed=6, dtype=torch.float64)
    turn_NE = torch.polar(torch.ones_like(angle_TE), -angle_TE if back else angle_TE)[position_N, : width // 2]
    turned = torch.complex(*x_NHE.split(width // 2, dim=2)) * turn_NE[:, None]
    found_NHE = x_NHE.to(dtype, copy=True)
    cuda.rotary_derivative(found_NHE, angle_TE.cos().to(dtype), angle_TE.sin().to(dtype), position_N, back)
    return error(found_NHE, torch.cat([turned.real, turned.imag], dim=2))


def _gate(
    bench: Bench, dtype: torch.dtype, sizes: tuple[int, ...], position_N: Tensor, cotangent: bool, gated: bool
) -> float:
    rows, positions, width = sizes
    up, gate = (bench.random_normal(rows, width, seed=seed, dtype=torch.float64) for seed in (7, 8))
    of_up, of_gate = (bench.random_normal(positions, width, seed=seed, dtype=torch.float64) for seed in (9, 10))
    wanted = [up * of_up[position_N]]
    if gated and cotangent:
        wanted.append(up * of_gate[position_N])
    elif gated:
        wanted[0] = wanted[0] + gate * of_gate[position_N]
    found = [up.to(dtype, copy=True), gate.to(dtype, copy=True) if gated else None]
    cuda.activation_derivative(*found, of_up.to(dtype), of_gate.to(dtype) if gated else None, position_N, cotangent)
    return max(error(mine, theirs) for mine, theirs in zip(found, wanted, strict=False) if mine is not None)


def engine(bench: Bench) -> Iterator[Row]:
    """Importance of a model with two layers of full width and fewer words.

    Both modes are checked, in float64 and in each precision of the derivatives.
    """
    vocabulary = bench.sizes.check_vocabulary
    model = bench.llama(2, vocabulary)
    double = Model(model.name, copy.deepcopy(model.module).double(), model.tokenizer, None, "float64")
    for prompt, response in bench.sizes.check_lengths:
        given = case(vocabulary, prompt, response)
        with reference.in_one_dtype(double.module):
            wanted_PR = paper.exact(double.module, given, range(response)).cpu()
        mode = f"importance of 2 layers, {'forward' if prompt < response else 'reverse'} mode"
        found_PR = importance(double, given, Precision.FLOAT32)
        yield _importance_row(mode, "float64", found_PR, wanted_PR, 1e-9)
        for precision, at_most in AT_MOST.items():
            found_PR = importance(model, given, precision)
            yield _importance_row(mode, precision.value, found_PR, wanted_PR, at_most)


def _importance_row(mode: str, precision: str, found_PR: Tensor, wanted_PR: Tensor, at_most: float) -> Row:
    error_R = column_error(found_PR, wanted_PR)
    worst, median = float(error_R.max()), float(error_R.median())
    required = f"at most {at_most:.0e} allowed (median column {median:.0e})"
    return Row("check", f"{mode}, {precision}", AUTOGRAD, worst, "", agreement=required, agrees=worst <= at_most)


def components(bench: Bench) -> Iterator[Row]:
    """principal_components against singular vectors, up to sign."""
    rows_FD = bench.random_normal(bench.sizes.check_rows[2], 40, seed=11) * torch.linspace(
        1, 3, 40, device=bench.device
    )
    component_CD, ratio_C = principal_components(rows_FD, 20)
    wanted_CD, wanted_C = reference.principal_components(rows_FD.cpu(), 20)
    along_C = (component_CD.cpu() * wanted_CD).sum(1).abs()
    worst = max(error(ratio_C, wanted_C), float((1 - along_C).abs().max()))
    yield row("principal_components", torch.float64, worst, 1e-9)
