"""Times attribution (docs/mathematics.md) beside the paper's loop and the libraries that offer it."""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftbench.engine.product import product
from shiftbench.engine.schedule import ROWS
from shiftbench.models import Model
from shiftbench.perf import paper
from shiftbench.perf.agreement import Agreement, column_agreement, column_error
from shiftbench.perf.cases import Case
from shiftbench.perf.timing import Sampled
from tests.perf import memory, models, peers
from tests.perf.benchmark_rounds import alternate
from tests.perf.models import answered, ours, smollm, wide_llama
from tests.perf.rows import Row, ratio_rows
from tests.perf.targets import DRAWN, FLOAT64, LENGTHS, LOOP, MEMORY, SHARE, SMOL, WIDE, lengths

pytestmark = pytest.mark.perf
SPOT = "attribution"
GEMM = 3072  # side of the square matrices, whose product is 58 GFLOP
CHUNK = 16  # response tokens that is_grads_batched computes at a time; its time is extrapolated from one such batch
Record = Callable[..., None]


def gemm(_: object) -> Sampled:
    """The machine's peak rate in this round, as the seconds that a product of two GEMM x GEMM matrices would take.

    The peak is the best rate of torch's two libraries for products, on large square matrices and on as many rows as the
    engine's parts have; each is measured twice.
    """
    rates = []
    for rows, width in 2 * ((GEMM, GEMM), (ROWS, GEMM // 2)):
        a, b = _gemm_matrices(rows, width)
        for multiply in (torch.mm, product):
            start = time.perf_counter()
            multiply(a, b)
            rates.append(2.0 * rows * width**2 / (time.perf_counter() - start))
    return Sampled(None, 2.0 * GEMM**3 / max(rates), "")


@cache
def _gemm_matrices(rows: int, width: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, width), torch.randn(width, width)


@pytest.mark.parametrize(("prompt", "response"), LENGTHS)
def test_against_the_loop(benchmark: Any, record: Record, prompt: int, response: int) -> None:
    """Ours beside the paper's loop: as it is, with frozen parameters, and batched. Also our share of the GEMM peak."""
    tokens, rounds = (16, 5) if (prompt, response) == LENGTHS[0] else (8, 3)
    _against_the_loop(benchmark, record, smollm(), answered(smollm(), prompt, response), SMOL, tokens, rounds)


@pytest.mark.parametrize(("response", "rounds"), [(60, 3), (150, 1)])
def test_layers_of_7b(benchmark: Any, record: Record, response: int, rounds: int) -> None:
    """The comparison with the loop, on layers of the width of a 7B model."""
    model = wide_llama()
    _against_the_loop(benchmark, record, model, models.case(model, 32, response), WIDE, 4, rounds)


def _against_the_loop(
    benchmark: Any, record: Record, model: Model, case: Case, name: str, tokens: int, rounds: int
) -> None:
    prompt, response = len(case.prompt.prompt_ids), len(case.response)
    warm(model)
    contestants: dict[str, Callable[[Case], Any]] = {
        LOOP: lambda case: paper.loop(model.module, case, tokens=tokens),
        "the loop, frozen parameters": lambda case: paper.loop(model.module, case, frozen=True, tokens=tokens),
        "is_grads_batched": lambda case: paper.batched(model.module, case, CHUNK, tokens=CHUNK),
        SHARE: gemm,
    }
    compared = alternate(benchmark, partial(ours, model), contestants, [case] * rounds)
    places = paper.evenly_spread(response, tokens)
    agreements = {
        peer: column_agreement(
            compared.ours.result,
            compared.peers[peer].result,
            paper.evenly_spread(response, CHUNK) if peer == "is_grads_batched" else places,
        )
        for peer in contestants
        if peer != SHARE
    }
    case_name = lengths(name, prompt, response)
    rows = [row for row in ratio_rows(SPOT, case_name, compared, agreements, {}) if row.against != SHARE]
    # The peak is that of the same round, as in every ratio: if the machine is slow for a while, both are slower.
    percent = 100 * models.flop_floor(model.module, case) / (2.0 * GEMM**3)
    share, low, high = (percent * ratio for ratio in compared.ratio(SHARE))
    peak = 2.0 * GEMM**3 / statistics.median(compared.peers[SHARE].seconds)
    note = f"of {peak / 1e9:.0f} GFLOP/s; the FLOP of P R rows over our time"
    ours_s = statistics.median(compared.ours.seconds)
    record(*rows, Row(SPOT, case_name, SHARE, share, "%", low, high, rounds, ours_s, note=note))


@pytest.mark.parametrize(("response", "rounds"), [(60, 3), (150, 1)])
def test_against_libraries(benchmark: Any, record: Record, response: int, rounds: int) -> None:
    """Ours beside inseq and captum, each called as its documentation says."""
    model = smollm()
    case, small = models.case(model, 32, response), models.case(model, 4, 4)
    contestants = {"inseq": peers.Inseq(model), "captum": peers.Captum(model)}
    warm(model)
    for peer in contestants.values():
        peer(small)
    compared = alternate(benchmark, partial(ours, model), contestants, [case] * rounds)
    found = {name: timed.result for name, timed in compared.peers.items()}
    found["captum"] = found["captum"] * probability(model, case)
    agreements = {name: column_agreement(compared.ours.result, theirs) for name, theirs in found.items()}
    notes = {"inseq": "input_x_gradient of the probability", "captum": "of the log-probability; compared times p"}
    record(*ratio_rows(SPOT, lengths(SMOL, 32, response), compared, agreements, notes))


def test_drawn_lengths(benchmark: Any, record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours beside the loop on 20 lengths drawn from the published maps: one round each, compared by the total time."""
    model = smollm()
    drawn = json.loads((Path(__file__).parent / "drawn_lengths.json").read_text())["pairs"]
    cases = [models.case(model, *pair, place=500 * i) for i, pair in enumerate(drawn)]
    warm(model)

    def ours_with_progress(case: Case) -> Tensor:
        with capsys.disabled():
            print(f" ({len(case.prompt.prompt_ids)}, {len(case.response)})", end="", flush=True)
        return ours(model, case)

    loop = {LOOP: lambda case: paper.loop(model.module, case, tokens=2)}
    compared = alternate(benchmark, ours_with_progress, loop, cases)
    error_R = torch.cat(
        [
            column_error(mine[:, paper.evenly_spread(len(case.response), 2)], theirs)
            for mine, theirs, case in zip(compared.ours.results, compared.peers[LOOP].results, cases, strict=True)
        ]
    )
    _, low, high = compared.ratio(LOOP)
    ours_s, theirs_s = sum(compared.ours.seconds), sum(compared.peers[LOOP].seconds)
    median, worst = float(error_R.median()), float(error_R.max())
    agreement = Agreement(f"{median:.0e} (worst column {worst:.0e})", median <= 1e-2)
    note = "total time; the loop extrapolated from 2 tokens a length; spread over the lengths"
    record(
        Row(
            SPOT, DRAWN, LOOP, compared.total_ratio(LOOP), "x", low, high, len(cases), ours_s, theirs_s,
            agreement.text, agreement.ok, note,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("prompt", "response"), LENGTHS)
def test_error_against_float64(record: Record, prompt: int, response: int) -> None:
    """The error of our worst column against autograd in float64, with that of the loop in float32 in the note."""
    model, case = smollm(), answered(smollm(), prompt, response)
    places = paper.evenly_spread(response, 12)
    exact_PR = paper.exact(_double(), case, places)
    error_R = column_error(ours(model, case)[:, places], exact_PR)
    loop_R = column_error(paper.exact(model.module, case, places), exact_PR)
    text = f"median column {float(error_R.median()):.0e}"
    note = f"worst of {len(places)} columns of a greedy response; the loop in float32 errs {float(loop_R.max()):.0e}"
    record(Row(SPOT, lengths(SMOL, prompt, response), FLOAT64, float(error_R.max()), "", agreement=text, note=note))


@cache
def _double() -> Any:
    return copy.deepcopy(smollm().module).double()


@pytest.mark.parametrize(("prompt", "response"), [LENGTHS[0], LENGTHS[-1]])
def test_memory(record: Record, prompt: int, response: int) -> None:
    """Peak resident memory beyond the model, of ours and of the loop."""
    found, left = memory.measured(f"attribution-{prompt}-{response}")
    theirs, theirs_left = memory.measured(f"loop-{prompt}-{response}")
    note = f"after a small first prompt, which leaves {left:.0f} MiB; the loop {theirs:.0f} and {theirs_left:.0f} MiB"
    record(Row(SPOT, lengths(SMOL, prompt, response), MEMORY, found, "MiB", note=note))


def probability(model: Model, case: Case) -> Tensor:
    """The probability of each response token."""
    p_RV = models.forward(model, case)[-len(case.response) - 1 : -1].softmax(-1)
    return p_RV.gather(1, torch.tensor(case.response)[:, None])[:, 0]


def warm(model: Model) -> None:
    """Call every contestant once on a tiny case, since a first call is slower."""
    small = models.case(model, 4, 4)
    ours(model, small)
    paper.loop(model.module, small)
    paper.batched(model.module, small, 4)
    gemm(None)
