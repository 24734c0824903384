"""Times vocab_topk beside searches over the full product, faiss, and the bare product, which is its lower limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftbench import ops
from shiftbench.perf.agreement import ranking_agreement
from tests.perf import memory, peers
from tests.perf.benchmark_rounds import alternate
from tests.perf.rows import Row, ratio_rows
from tests.perf.targets import TOPK_LARGE, TOPK_SMALL

pytestmark = pytest.mark.perf
SPOT, K = "vocab_topk", 100
SIZES = {TOPK_LARGE: (32_000, 4096, 1024), TOPK_SMALL: (26_000, 576, 576)}


@pytest.mark.parametrize("name", SIZES)
def test_against_searches(benchmark: Any, record: Callable[..., None], name: str) -> None:
    words, width, directions = SIZES[name]
    draws = torch.Generator().manual_seed(0)
    embedding_VD = torch.randn(words, width, generator=draws)
    direction_CD = torch.nn.functional.normalize(torch.randn(directions, width, generator=draws), dim=1)
    out_CV = torch.empty(directions, words)

    def bare(_: object) -> None:
        torch.mm(direction_CD, embedding_VD.T, out=out_CV)

    def searching(search: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]) -> Callable[[object], Any]:
        return lambda _: search(embedding_VD, direction_CD, K)

    contestants = {
        "bare product": bare,
        "product and argsort": searching(peers.argsort_topk),
        "torch topk": searching(peers.torch_topk),
        "faiss-cpu": searching(peers.faiss_topk),
    }
    rounds = 3 if width > 1000 else 7
    for call in (searching(ops.vocab_topk), bare):
        call(None)
    compared = alternate(benchmark, searching(ops.vocab_topk), contestants, [None] * rounds)
    agreements = {
        peer: ranking_agreement(compared.ours.result, timed.result)
        for peer, timed in compared.peers.items()
        if peer != "bare product"
    }
    notes = {
        "bare product": "the limit: V x C written to memory, nothing searched",
        "faiss-cpu": "flat index, a search for each sign",
    }
    record(*ratio_rows(SPOT, name, compared, agreements, notes))


def test_working_memory(record: Callable[..., None]) -> None:
    """Memory beyond the inputs, measured in a new process."""
    numbers = "-".join(map(str, (*SIZES[TOPK_LARGE], K)))
    (found, _), (sorting, _) = memory.measured(f"vocab_topk-{numbers}"), memory.measured(f"argsort-{numbers}")
    record(Row(SPOT, TOPK_LARGE, "working memory", found, "MiB", note=f"product and argsort take {sorting:.0f} MiB"))
