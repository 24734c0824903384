"""Times word pairs of attention heads (docs/mathematics.md) beside the paper's procedure in numpy and Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shiftbench.contracts.explainer import Inputs
from shiftbench.explain import attention
from shiftbench.models import Model
from shiftbench.perf.agreement import Agreement
from shiftbench.store.explanation import Unit
from shiftbench.words.vectors import glove
from shiftbench.words.vocabulary import packaged as packaged_vocabulary
from tests.perf.benchmark_rounds import alternate
from tests.perf.models import packaged, smollm
from tests.perf.paper_knowledge import Heads, of_head, sampled_heads
from tests.perf.rows import ratio_rows
from tests.perf.targets import HEADS

pytestmark = pytest.mark.perf
PAPER, LITERAL = "paper's procedure", "the same, cutoffs anew for each candidate"


def test_all_heads(benchmark: Any, record: Callable[..., None]) -> None:
    """Ours on all heads, the paper's procedure on a sample of them."""
    model, vocabulary, vectors = smollm(), packaged_vocabulary(12_000), glove()
    inputs = Inputs((), vocabulary, vectors)
    _ = model.weights_digest  # computed here, so that its time is not measured: it is part of a unit's key
    contestants = {
        PAPER: lambda _: sampled_heads(model, vocabulary, vectors, heads=6, keep=True),
        LITERAL: lambda _: sampled_heads(model, vocabulary, vectors, heads=1, keep=False, neurons=4),
    }
    compared = alternate(benchmark, lambda _: every_layer(model, inputs), contestants, [None] * 5)
    agreements = {PAPER: agreement(compared.ours.result, compared.peers[PAPER].result)}
    notes = {name: f"{len(vocabulary.words):,} words, GloVe; {model.views.layers * model.views.heads} heads"
             for name in contestants}  # fmt: skip
    record(*ratio_rows("word pairs", HEADS, compared, agreements, notes))


def every_layer(model: Model, inputs: Inputs) -> list[Unit]:
    """Our units, one for each layer, with counts of pairs and the heads' knowledge. The cache is cleared first."""
    attention._cooccurrence.cache_clear()
    return [work.compute() for work in packaged("attention").work(model, inputs)]


def agreement(units: list[Unit], heads: Heads) -> Agreement:
    """How many word pairs, and how many pairs of the heads' knowledge, differ between the two."""
    differ = pairs = 0
    for (layer, head), (count, knowledge) in heads.items():
        mine_count, mine = of_head(units[layer], head)
        pairs += count
        differ += abs(mine_count - count) + sum(((mine - knowledge) + (knowledge - mine)).values())
    return Agreement(f"{differ} of {pairs} word pairs differ" if differ else f"all {pairs} word pairs equal",
                     differ <= 1e-3 * pairs)  # fmt: skip
