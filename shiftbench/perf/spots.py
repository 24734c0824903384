"""The hot spots at sizes of milliseconds: ours, the yardstick beside it, and what is counted. Nothing is downloaded.

The model has SmolLM2-135M's shape, a tenth of its layers and words, and random weights: no time depends on which. A
yardstick uses the machine as its hot spot does (products for products, passes over memory for passes over memory), so
that a neighbour, a clock that is turned down or another CPU of the class slows both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from shiftbench import ops
from shiftbench.engine.product import product
from shiftbench.explain import attribution
from shiftbench.explain.feedforward import principal_components
from shiftbench.models import Model
from shiftbench.models.block import Attention, Linear
from shiftbench.perf import counters, paper
from shiftbench.perf.cases import Case
from shiftbench.perf.counters import Counts
from shiftbench.prompts import EncodedPrompt, Prompt

SEED = 20231016
LAYERS, WIDTH, INNER, VOCABULARY = 3, 576, 1536, 4915
WORDS, PAIRED, K = 4096, 1024, 100  # PAIRED: whose table of pairs fits into a cache
LOOP, PRODUCT, FORMULA = "paper's loop", "bare product", "plain formula"

Call = Callable[[], Any]


@dataclass(frozen=True)
class Spot:
    """ours: the hot spot. yardsticks: what its time is divided by. count: what ours computes, exactly.

    repeats: calls of ours and of a yardstick that a round times together: a millisecond is too short for a scheduler.
    """

    name: str
    ours: Call
    yardsticks: Mapping[str, Call]
    count: Callable[[Call], Counts]
    repeats: tuple[int, int] = (1, 1)

    def keys(self) -> dict[str, str]:
        """How the ratio to each yardstick is called: in the baseline, in MLflow."""
        return {against: f"{self.name} over {against}" for against in self.yardsticks}


def spots() -> list[Spot]:
    """All hot spots, their inputs made."""
    makers = (engine_forward, engine_reverse, topk, cooccurrence, word_pairs, components, bootstrap, density)
    return [maker() for maker in makers]


def engine_forward() -> Spot:
    """Attribution in forward mode against the paper's loop, over 2 of the response tokens, and the bare product.

    The loop has its parameters frozen: gradients of weights are written to fresh memory, which is the kernel's time.
    """
    model, case = small_model(), random_case(12, 40)
    yardsticks = {
        LOOP: lambda: paper.loop(model.module, case, frozen=True, tokens=2),
        PRODUCT: bare_product(model, case),
    }
    return Spot("attribution forward", partial(attribute, model, case), yardsticks, counters.attribution)


def engine_reverse() -> Spot:
    """Attribution in reverse mode, for responses shorter than their prompt."""
    model, case = small_model(), random_case(40, 12)
    yardsticks = {PRODUCT: bare_product(model, case, back=True)}
    return Spot("attribution reverse", partial(attribute, model, case), yardsticks, counters.attribution)


def bare_product(model: Model, case: Case, back: bool = False) -> Call:
    """The products that the engine cannot do without: P R rows, in its two parts, with every weight of the layers but
    those behind the last one's attention, and the gates, which are one with the up-projections.

    With the model's own weights, because the engine and its yardstick must want as much of the machine's caches.
    """
    transformer, _ = model.transformer_or_reason
    assert transformer is not None
    *below, last = transformer.blocks
    linears: list[Linear] = []
    for block in below:
        linears += [*_linears(block.attention), block.feed_forward.up, block.feed_forward.down]
    linears += [last.attention.query, last.attention.key, last.attention.value]
    weights = [linear.weight_IO.T if back else linear.weight_IO for linear in linears]
    rows = len(case.prompt.prompt_ids) * len(case.response) // 2
    given = {width: drawn(rows, width) for width in {len(weight) for weight in weights}}
    return lambda: [product(given[len(weight)], weight) for _ in range(2) for weight in weights]


def _linears(part: Attention) -> list[Linear]:
    return [value for value in vars(part).values() if isinstance(value, Linear)]


def topk() -> Spot:
    """The search for a direction's words against the bare product that it cannot do without."""
    embedding_VD = drawn(4096, WIDTH)
    direction_CD = torch.nn.functional.normalize(drawn(WIDTH, WIDTH, seed=1), dim=1)
    out_CV = torch.empty(len(direction_CD), len(embedding_VD))
    return Spot(
        "vocab_topk", lambda: ops.vocab_topk(embedding_VD, direction_CD, K),
        {PRODUCT: lambda: torch.mm(direction_CD, embedding_VD.T, out=out_CV)}, counters.allocations,
    )  # fmt: skip


def cooccurrence() -> Spot:
    """Which words co-occur, against the bare product of all cosines."""
    unit_VG, cutoff_V, spelling_V = _words(WORDS)
    out_VV = torch.empty(WORDS, WORDS)
    return Spot(
        "cooccurrence", lambda: ops.cooccurrence(unit_VG, cutoff_V, spelling_V),
        {PRODUCT: lambda: torch.mm(unit_VG, unit_VG.T, out=out_VV)}, counters.flops,
    )  # fmt: skip


def word_pairs() -> Spot:
    """Word pairs of neuron pairs against the plain formula on a table of all words by all words."""
    cooccurring = ops.cooccurrence(*_words(PAIRED))
    sides = [_side(seed) for seed in (2, 3)]
    table_VV = torch.zeros(PAIRED, PAIRED, dtype=torch.bool)
    first_V, other_N, _ = cooccurring
    table_VV[torch.repeat_interleave(torch.arange(PAIRED), first_V.diff()), other_N.long()] = True

    def plain() -> Tensor:
        (query_CK, query_index_CK), (key_CK, key_index_CK) = sides
        found_CKK = table_VV[query_index_CK[:, :, None], key_index_CK[:, None, :]]
        return (found_CKK & (query_CK.sign()[:, :, None] == key_CK.sign()[:, None, :])).nonzero()

    (query, key) = sides
    return Spot(
        "word_pairs", lambda: ops.word_pairs(cooccurring, *query, *key), {FORMULA: plain}, counters.flops, (10, 1)
    )


def components() -> Spot:
    """Principal components of a down-projection against torch's singular value decomposition."""
    down_FD = drawn(INNER // 2, WIDTH // 2)
    return Spot(
        "components", lambda: principal_components(down_FD, 100),
        {"torch svd": lambda: torch.linalg.svd(down_FD - down_FD.mean(0), full_matrices=False)}, counters.flops, (2, 1),
    )  # fmt: skip


def bootstrap() -> Spot:
    """Resampled means against torch's draws and their mean."""
    value_N, resamples = drawn(250, 1)[:, 0].double(), 5000
    draws = torch.Generator().manual_seed(SEED)

    def plain() -> Tensor:
        return value_N[torch.randint(len(value_N), (resamples, len(value_N)), generator=draws)].mean(1)

    return Spot(
        "bootstrap", lambda: ops.bootstrap(value_N, [len(value_N)], resamples, 0), {FORMULA: plain},
        counters.allocations, (10, 2),
    )  # fmt: skip


def density() -> Spot:
    """Importance, levels and density in one pass over the gradients, against a product with a vector: both read alike.

    Not against the formulas one after another: what they write in between is fresh memory, which is the kernel's time.
    """
    grad_RPD, embedding_PD = drawn(60, 60 * WIDTH).view(60, 60, WIDTH), drawn(60, WIDTH, seed=1)
    grad_ND, out_N = grad_RPD.view(-1, WIDTH), torch.empty(3600)
    return Spot(
        "density", lambda: ops.importance_density_from_grad(grad_RPD, embedding_PD, 10, 7, 4.0),
        {PRODUCT: lambda: torch.mv(grad_ND, embedding_PD[0], out=out_N)}, counters.allocations, (20, 20),
    )  # fmt: skip


@cache
def small_model() -> Model:
    """SmolLM2-135M's shape, LAYERS deep, random."""
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_attention_heads=9, num_key_value_heads=3,
        num_hidden_layers=LAYERS, vocab_size=VOCABULARY, max_position_embeddings=2048, rope_theta=100_000.0,
        tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = LlamaForCausalLM(config)
    no_tokenizer: Any = None  # ids are drawn
    return Model("SmolLM2-135M's shape", module.eval().requires_grad_(False), no_tokenizer, None, "float32")


def random_case(prompt: int, response: int) -> Case:
    """So many prompt and response tokens, drawn."""
    draws = torch.Generator().manual_seed(SEED)
    ids = torch.randint(2, VOCABULARY, (prompt + response,), generator=draws).tolist()
    nothing_P = torch.zeros(prompt, dtype=torch.bool)
    encoded = EncodedPrompt(
        Prompt("random", "", ()),
        "",
        (),
        tuple(ids[:prompt]),
        tuple(map(str, ids[:prompt])),
        nothing_P,
        nothing_P,
        nothing_P,
    )
    return Case(encoded, tuple(ids[prompt:]), ("", ""))


def attribute(model: Model, case: Case) -> Tensor:
    """importance_PR as `shiftbench score` computes it."""
    return attribution.importance(model, case.prompt, case.response, memory=None)[0]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _words(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors, cutoffs that a hundredth of all pairs is above, and spellings that all differ."""
    unit_VG = torch.nn.functional.normalize(drawn(count, 50), dim=1)
    return unit_VG, torch.full((count,), 0.33, dtype=torch.float64), torch.arange(count)


def _side(seed: int) -> tuple[Tensor, Tensor]:
    """(values_CK, indices_CK) of 128 neurons' words, drawn."""
    value_CV = drawn(128, PAIRED, seed=seed)
    index_CK = value_CV.abs().topk(K, dim=1).indices
    return value_CV.gather(1, index_CK), index_CK
