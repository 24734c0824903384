"""Word pairs of attention heads (docs/mathematics.md) against the paper's procedure in numpy and Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from shiftbench.contracts.explainer import Inputs
from shiftbench.explain import attention
from shiftbench.models import Model
from shiftbench.perf.compare import Agreement
from shiftbench.store.explanation import Unit
from shiftbench.words.vectors import glove
from shiftbench.words.vocabulary import packaged as packaged_vocabulary
from tests.perf.compare import alternate
from tests.perf.models import packaged, smollm
from tests.perf.paper_knowledge import Heads, of_head, sampled_heads
from tests.perf.rows import ratio_rows
from tests.perf.targets import HEADS

pytestmark = pytest.mark.perf
PAPER, LITERAL = "paper's procedure", "the same, cutoffs anew for each candidate"


def test_all_heads(benchmark: Any, record: Callable[..., None]) -> None:
    """Ours over all heads, the paper's over a sample of them."""
    model, vocabulary, vectors = smollm(), packaged_vocabulary(12_000), glove()
    inputs = Inputs((), vocabulary, vectors)
    _ = model.weights_digest  # part of a unit's key, not of its making
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
    """Ours, a unit a layer: counts of pairs and the heads' knowledge. Nothing is left from an earlier model."""
    attention._cooccurrence.cache_clear()
    return [work.compute() for work in packaged("attention").work(model, inputs)]


def agreement(units: list[Unit], heads: Heads) -> Agreement:
    """Word pairs, and pairs that a head knows, in which the two differ."""
    differ = pairs = 0
    for (layer, head), (count, knowledge) in heads.items():
        mine_count, mine = of_head(units[layer], head)
        pairs += count
        differ += abs(mine_count - count) + sum(((mine - knowledge) + (knowledge - mine)).values())
    return Agreement(f"{differ} of {pairs} word pairs differ" if differ else f"all {pairs} word pairs equal",
                     differ <= 1e-3 * pairs)  # fmt: skip
