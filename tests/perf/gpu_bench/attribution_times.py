"""Attribution in each precision against the paper's loop, on a whole model made on the device."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from shiftbench.engine.product import Precision
from shiftbench.ops import cuda
from shiftbench.perf import paper
from shiftbench.perf.compare import columns
from tests.perf import models
from tests.perf.gpu_bench.bench import Bench, case, importance
from tests.perf.rows import Row, ratio_rows
from tests.perf.targets import GEMM_RATE, LOOP, in_precision, lengths

FROZEN, BATCHED = "the loop, frozen parameters", "is_grads_batched"
# Of the median response token, relative to its largest importance.
AT_MOST = {Precision.FLOAT32: 1e-2, Precision.TF32: 3e-2, Precision.BFLOAT16: 6e-2}


def attribution(bench: Bench, prompt: int, response: int, precision: Precision) -> Iterator[Row]:
    """Ours, and the peers in float32: the loop, it frozen, it batched; and the loop with torch's TF32 allowed."""
    model, sizes = bench.model, bench.sizes
    module, given = model.module, case(sizes.vocabulary, prompt, response)
    tokens = sizes.loop_tokens

    def loop() -> Any:
        return paper.loop(module, given, tokens=tokens)

    def loop_in_tf32() -> Any:
        with cuda.float32_products(tf32=True):
            return loop()

    contestants: dict[str, Callable[[], Any]] = {
        LOOP: loop,
        f"{LOOP} in TF32": loop_in_tf32,
        FROZEN: lambda: paper.loop(module, given, frozen=True, tokens=tokens),
        BATCHED: lambda: paper.batched(module, given, sizes.batch, tokens=sizes.batch),
    }
    compared = bench.compare(lambda: importance(model, given, precision), contestants, rounds=2)
    found_PR = compared.ours.result
    agreements = {
        peer: columns(
            found_PR,
            compared.peers[peer].result.cpu(),
            paper.spread(response, sizes.batch if peer == BATCHED else tokens),
            AT_MOST[max(precision, Precision.TF32, key=lambda p: AT_MOST[p]) if "TF32" in peer else precision],
        )
        for peer in contestants
    }
    name = lengths(in_precision(sizes.model, precision.value), prompt, response)
    yield from ratio_rows("attribution", name, compared, agreements, {})
    ours_s = statistics.median(compared.ours.seconds)
    floor, rate = models.flop_floor(module, given), bench.rates[precision.value]
    note = f"{floor / ours_s / 1e12:.3g} of {rate / 1e12:.3g} TFLOP/s; the FLOP of P R rows over our time"
    share = 100 * floor / ours_s / rate
    yield Row("attribution", name, GEMM_RATE, share, "%", rounds=2, ours_s=ours_s, note=note)
    bench.seconds[f"attribution, {precision.value}, {prompt}, {response}"] = ours_s
