"""The card's own rates, and each op timed against plain torch on the same tensors."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.ops import cuda
from shiftbench.perf.compare import Agreement, Comparison, ranked, values
from tests import reference
from tests.perf import peers
from tests.perf.gpu_bench.bench import Bench, Sizes
from tests.perf.gpu_bench.checks import CUTOFF, LEVELS, NORM
from tests.perf.rows import Row, ratio_rows
from tests.perf.targets import BARE, BARE_TF32

PRECISIONS = ("float32", "tf32", "bfloat16")


def in_tf32(call: Callable[[], object]) -> Callable[[], object]:
    """The call while torch may make float32 products of TF32 ones."""

    def run() -> object:
        with cuda.float32_products(tf32=True):
            return call()

    return run


def card(bench: Bench) -> Iterator[Row]:
    """The best rate of a square product and of one as the engine makes them, on normal numbers; and of a copy."""
    sizes = bench.sizes
    shapes = {"square": (sizes.square,) * 3, "engine's": (sizes.square, sizes.width, sizes.inner)}
    for precision in PRECISIONS:
        found = {}
        for name, (rows, inner, cols) in shapes.items():
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
            a, b = bench.drawn(rows, inner, dtype=dtype), bench.drawn(inner, cols, seed=1, dtype=dtype)
            out = a.new_empty(rows, cols)

            def multiply(a: Tensor = a, b: Tensor = b, out: Tensor = out) -> object:
                return torch.mm(a, b, out=out)

            call = in_tf32(multiply) if precision == "tf32" else multiply
            seconds = bench.compare(call, {}, rounds=3, repeats=5).ours.seconds
            found[name] = 2.0 * rows * inner * cols / min(seconds)
            del a, b, out
        bench.rates[precision] = max(found.values())
        each = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in found.items())
        yield Row("card", f"matrix product, {precision}", "rate", max(found.values()) / 1e12, "TFLOP/s", note=each)
    source = bench.drawn(sizes.copied)
    to = torch.empty_like(source)
    seconds = bench.compare(lambda: to.copy_(source), {}, rounds=3, repeats=5).ours.seconds
    bench.rates["copy"] = 2.0 * source.nbytes / min(seconds)
    note = "bytes read and bytes written"
    yield Row("card", f"copy of {source.nbytes >> 20} MiB", "rate", bench.rates["copy"] / 1e9, "GB/s", note=note)


def topk_case(sizes: Sizes) -> str:
    """What the table calls vocab_topk of the whole vocabulary."""
    directions, k = sizes.topk
    return f"V {sizes.vocabulary:,}, D {sizes.width:,}, C {directions:,}, k {k}"


def vocab_topk(bench: Bench) -> Iterator[Row]:
    """Against the bare product, which writes all scores and searches none, and against searches of them."""
    sizes, (directions, k) = bench.sizes, bench.sizes.topk
    embedding_VD = bench.drawn(sizes.vocabulary, sizes.width)
    direction_CD = torch.nn.functional.normalize(bench.drawn(directions, sizes.width, seed=1), dim=1)
    out_CV = direction_CD.new_empty(directions, sizes.vocabulary)

    def bare() -> None:
        torch.mm(direction_CD, embedding_VD.T, out=out_CV)

    contestants = {
        BARE: bare,
        BARE_TF32: in_tf32(bare),
        "torch topk": lambda: peers.torch_topk(embedding_VD, direction_CD, k),
        "product and argsort": lambda: peers.argsort_topk(embedding_VD, direction_CD, k),
    }
    compared = bench.compare(lambda: ops.vocab_topk(embedding_VD, direction_CD, k), contestants, rounds=5)
    found = compared.ours.result
    # Of ours with float64: a product in float32 makes some neighbours change places.
    right = ranked(found, peers.torch_topk(embedding_VD.double(), direction_CD.double(), k))
    agreements = dict.fromkeys(contestants, right)
    name = topk_case(sizes)
    notes = dict.fromkeys((BARE, BARE_TF32), "the limit: V x C written to memory, nothing searched")
    notes |= dict.fromkeys(("torch topk", "product and argsort"), "float32; agreement is with torch topk in float64")
    yield from ratio_rows("vocab_topk", name, compared, agreements, notes)
    flop = 2.0 * sizes.vocabulary * sizes.width * directions
    yield _rate("vocab_topk", name, flop, compared, bench.rates["tf32"], "TFLOP/s", "TF32 product")
    narrow_VD = embedding_VD.bfloat16()
    compared = bench.compare(lambda: ops.vocab_topk(narrow_VD, direction_CD, k), {BARE_TF32: in_tf32(bare)}, rounds=5)
    wanted = peers.torch_topk(narrow_VD.double(), direction_CD.double(), k)
    agreements = {BARE_TF32: ranked(compared.ours.result, wanted)}
    notes = {BARE_TF32: "of float32 embeddings; agreement with torch topk in float64"}
    yield from ratio_rows("vocab_topk", f"{name}, bfloat16 embeddings", compared, agreements, notes)


def density(bench: Bench) -> Iterator[Row]:
    """importance_density_from_grad against the formulas in torch; bytes are those of gradients and embeddings."""
    for responses, tokens in bench.sizes.grads:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            grad_RPD = bench.drawn(responses, tokens, bench.sizes.width, dtype=dtype)
            embedding_PD = bench.drawn(tokens, bench.sizes.width, seed=1, dtype=dtype)

            def ours(grad_RPD: Tensor = grad_RPD, embedding_PD: Tensor = embedding_PD) -> tuple[Tensor, ...]:
                return ops.importance_density_from_grad(grad_RPD, embedding_PD, LEVELS, CUTOFF, NORM)

            def plain(grad_RPD: Tensor = grad_RPD, embedding_PD: Tensor = embedding_PD) -> tuple[Tensor, ...]:
                importance_PR = reference.grad_x_input(grad_RPD, embedding_PD)
                level_PR = reference.importance_levels(importance_PR, LEVELS)
                return importance_PR, level_PR, reference.importance_density(level_PR, CUTOFF, NORM)

            compared = bench.compare(ours, {"plain torch": plain}, rounds=5, repeats=bench.sizes.repeats)
            narrow = dtype != torch.float32  # the peer rounds every product to it, and its sums
            agreement = values(
                compared.ours.result[0], compared.peers["plain torch"].result[0], 5e-2 if narrow else 1e-5
            )
            kind = str(dtype).removeprefix("torch.")
            name = f"R {responses}, P {tokens}, D {bench.sizes.width:,}, {kind}"
            spot = "importance_density_from_grad"
            yield from ratio_rows(spot, name, compared, {"plain torch": agreement}, {})
            moved = float(grad_RPD.nbytes + embedding_PD.nbytes)
            yield _rate(spot, name, moved, compared, bench.rates["copy"], "GB/s", "copy")


def bootstrap(bench: Bench) -> Iterator[Row]:
    """Against torch's own draws, which are others: the means' means and spreads must agree."""
    lengths, resamples = list(bench.sizes.strata), bench.sizes.resamples
    value_N = bench.drawn(sum(lengths), dtype=torch.float64)

    def plain() -> Tensor:
        return torch.stack(
            [
                part[torch.randint(len(part), (resamples, len(part)), device=part.device)].mean(1)
                for part in value_N.split(lengths)
            ],
            dim=1,
        )

    compared = bench.compare(lambda: ops.bootstrap(value_N, lengths, resamples, 0), {"torch": plain}, rounds=5)
    ours_SG, theirs_SG = compared.ours.result, compared.peers["torch"].result
    error_G = theirs_SG.std(0) / resamples**0.5
    apart = float(((ours_SG.mean(0) - theirs_SG.mean(0)).abs() / error_G).max())
    spread = float((ours_SG.std(0) / theirs_SG.std(0) - 1).abs().max())
    ok = apart < 7 and spread < 7 / resamples**0.5
    agreement = Agreement(f"means {apart:.1f} standard errors apart, spreads {spread:.1%}", ok)
    name = f"{' + '.join(map(str, lengths))} values, {resamples:,} draws"
    yield from ratio_rows("bootstrap", name, compared, {"torch": agreement}, {"torch": "other draws"})


def _rate(spot: str, case: str, done: float, compared: Comparison, most: float, unit: str, of: str) -> Row:
    """done: FLOP or bytes of a call. most: what the card does in a second."""
    seconds = statistics.median(compared.ours.seconds)
    rate = done / seconds
    note = f"{100 * rate / most:.0f}% of the card's own {of}"
    return Row(spot, case, "rate", rate / (1e12 if unit == "TFLOP/s" else 1e9), unit, ours_s=seconds, note=note)
