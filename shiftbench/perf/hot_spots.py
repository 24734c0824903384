"""The hot spots that the performance gate measures, at sizes that take milliseconds, with their yardsticks.

The model has the shape of SmolLM2-135M with a tenth of its layers and words. Its weights are random: no time depends on
them, and nothing has to be downloaded. A yardstick uses the machine as its hot spot does: matrix products beside
matrix products, passes over memory beside passes over memory. So another process, a lower clock rate or another CPU of
the same class changes both times about equally.
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
from shiftbench.explain.feedforward import principal_components
from shiftbench.explain.importance import importance
from shiftbench.models import Model
from shiftbench.models.block import Attention, Linear
from shiftbench.perf import counters, paper
from shiftbench.perf.cases import Case
from shiftbench.perf.counters import Counts
from shiftbench.prompts import EncodedPrompt, Prompt

SEED = 20231016
LAYERS, WIDTH, INNER, VOCABULARY = 3, 576, 1536, 4915
WORDS, K = 4096, 100
PAIRED = 1024  # words of the hot spot word_pairs: a table of all their pairs fits into a cache
LOOP, PRODUCT, FORMULA = "paper's loop", "bare product", "plain formula"

Call = Callable[[], Any]


@dataclass(frozen=True)
class HotSpot:
    """A computation of ours to measure.

    ours: the computation. yardsticks: by name, the computations whose time the time of ours is divided by. count:
    counts what ours computes. repeats: how often a round calls ours, and how often each yardstick; the time of a round
    of a single millisecond would depend on the scheduler.
    """

    name: str
    ours: Call
    yardsticks: Mapping[str, Call]
    count: Callable[[Call], Counts]
    repeats: tuple[int, int] = (1, 1)

    def keys(self) -> dict[str, str]:
        """Yardstick's name -> key of the ratio of both times, such as 'bootstrap over plain formula'.

        The baseline file and, after `history.metric`, MLflow have the ratio under this key.
        """
        return {against: f"{self.name} over {against}" for against in self.yardsticks}


def hot_spots() -> list[HotSpot]:
    """All hot spots, with their inputs."""
    makers = (engine_forward, engine_reverse, topk, cooccurrence, word_pairs, components, bootstrap, density)
    return [maker() for maker in makers]


def engine_forward() -> HotSpot:
    """Attribution in forward mode, beside the paper's loop over 2 of the response tokens and beside the bare products.

    The loop's parameters are frozen. Gradients of weights would be written to newly allocated memory, and much of the
    time would be that of the operating system's kernel.
    """
    model, case = small_model(), random_case(12, 40)
    yardsticks = {
        LOOP: lambda: paper.loop(model.module, case, frozen=True, tokens=2),
        PRODUCT: bare_product(model, case),
    }
    return HotSpot("attribution forward", partial(attribute, model, case), yardsticks, counters.attribution)


def engine_reverse() -> HotSpot:
    """Attribution in reverse mode, as the response is shorter than the prompt, beside the bare products."""
    model, case = small_model(), random_case(40, 12)
    yardsticks = {PRODUCT: bare_product(model, case, back=True)}
    return HotSpot("attribution reverse", partial(attribute, model, case), yardsticks, counters.attribution)


def bare_product(model: Model, case: Case, back: bool = False) -> Call:
    """A function that computes the matrix products that attribution needs at least.

    They are the products of P R rows with each weight of the layers, half of the rows at a time. Left out are the last
    layer's weights after its query, key and value projections, and all gate projections, which the engine merges with
    the up-projections.
    back: whether the weights are transposed, as in reverse mode. The model's own weights are used, so the engine and
    its yardstick need the same space in the machine's caches.
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
    given = {width: random_normal(rows, width) for width in {len(weight) for weight in weights}}
    return lambda: [product(given[len(weight)], weight) for _ in range(2) for weight in weights]


def _linears(part: Attention) -> list[Linear]:
    return [value for value in vars(part).values() if isinstance(value, Linear)]


def topk() -> HotSpot:
    """The search for the top words of each direction, beside the product of all directions and all words."""
    embedding_VD = random_normal(4096, WIDTH)
    direction_CD = torch.nn.functional.normalize(random_normal(WIDTH, WIDTH, seed=1), dim=1)
    out_CV = torch.empty(len(direction_CD), len(embedding_VD))
    return HotSpot(
        "vocab_topk", lambda: ops.vocab_topk(embedding_VD, direction_CD, K),
        {PRODUCT: lambda: torch.mm(direction_CD, embedding_VD.T, out=out_CV)}, counters.allocations,
    )  # fmt: skip


def cooccurrence() -> HotSpot:
    """The list of co-occurring words, beside the product that gives all cosines."""
    unit_VG, cutoff_V, spelling_V = _words(WORDS)
    out_VV = torch.empty(WORDS, WORDS)
    return HotSpot(
        "cooccurrence", lambda: ops.cooccurrence(unit_VG, cutoff_V, spelling_V),
        {PRODUCT: lambda: torch.mm(unit_VG, unit_VG.T, out=out_VV)}, counters.flops,
    )  # fmt: skip


def word_pairs() -> HotSpot:
    """Word pairs of neuron pairs, beside the plain formula on a table that says which words co-occur with which."""
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
    return HotSpot(
        "word_pairs", lambda: ops.word_pairs(cooccurring, *query, *key), {FORMULA: plain}, counters.flops, (10, 1)
    )


def components() -> HotSpot:
    """The first 100 principal components of a down-projection, beside all of them by torch.linalg.svd."""
    down_FD = random_normal(INNER // 2, WIDTH // 2)
    return HotSpot(
        "components", lambda: principal_components(down_FD, 100),
        {"torch svd": lambda: torch.linalg.svd(down_FD - down_FD.mean(0), full_matrices=False)}, counters.flops, (2, 1),
    )  # fmt: skip


def bootstrap() -> HotSpot:
    """Resampled means, beside torch's random draws and their means."""
    value_N, resamples = random_normal(250, 1)[:, 0].double(), 5000
    draws = torch.Generator().manual_seed(SEED)

    def plain() -> Tensor:
        return value_N[torch.randint(len(value_N), (resamples, len(value_N)), generator=draws)].mean(1)

    return HotSpot(
        "bootstrap", lambda: ops.bootstrap(value_N, [len(value_N)], resamples, 0), {FORMULA: plain},
        counters.allocations, (10, 2),
    )  # fmt: skip


def density() -> HotSpot:
    """Importance, levels and density in one pass over the gradients, beside a product of the gradients and a vector.

    Both read the same memory. The formulas one after another would be no good yardstick: their intermediate results
    are written to newly allocated memory, and much of the time would be that of the operating system's kernel.
    """
    grad_RPD, embedding_PD = random_normal(60, 60 * WIDTH).view(60, 60, WIDTH), random_normal(60, WIDTH, seed=1)
    grad_ND, out_N = grad_RPD.view(-1, WIDTH), torch.empty(3600)
    return HotSpot(
        "density", lambda: ops.importance_density_from_grad(grad_RPD, embedding_PD, 10, 7, 4.0),
        {PRODUCT: lambda: torch.mv(grad_ND, embedding_PD[0], out=out_N)}, counters.allocations, (20, 20),
    )  # fmt: skip


@cache
def small_model() -> Model:
    """A model of the shape of SmolLM2-135M with LAYERS layers, VOCABULARY tokens and no tokenizer.

    Its weights are random, float32 and the same at every call.
    """
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=INNER, num_attention_heads=9, num_key_value_heads=3,
        num_hidden_layers=LAYERS, vocab_size=VOCABULARY, max_position_embeddings=2048, rope_theta=100_000.0,
        tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        module = LlamaForCausalLM(config)
    no_tokenizer: Any = None  # the token ids are drawn, so no text is encoded
    return Model("SmolLM2-135M's shape", module.eval().requires_grad_(False), no_tokenizer, None, "float32")


def random_case(
    prompt: int, response: int, prefix: tuple[int, ...] = (), vocabulary: int = VOCABULARY, seed: int = SEED
) -> Case:
    """A case of random token ids from 2 to vocabulary - 1, without texts.

    prompt, response: the number of tokens of each. prefix: the ids in front of the prompt, which are not random. seed:
    the same ids are drawn for the same seed.
    """
    draws = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, vocabulary, (prompt + response,), generator=draws).tolist()
    nothing_P = torch.zeros(prompt, dtype=torch.bool)
    encoded = EncodedPrompt(
        Prompt("random", "", ()),
        "",
        prefix,
        tuple(ids[:prompt]),
        tuple(map(str, ids[:prompt])),
        nothing_P,
        nothing_P,
        nothing_P,
    )
    return Case(encoded, tuple(ids[prompt:]), ("", ""))


def attribute(model: Model, case: Case) -> Tensor:
    """importance_PR by gradient times input in float32, as `shiftbench score` computes it by default."""
    return importance(model, case.prompt, case.response, memory=None)[0]


def random_normal(*shape: int, seed: int = 0) -> Tensor:
    """A float32 tensor of this shape with standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _words(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(unit_VG, cutoff_V, spelling_V) of `count` random words.

    All words have one cutoff, which the cosines of about one pair in a hundred exceed, and all spellings differ.
    """
    unit_VG = torch.nn.functional.normalize(random_normal(count, 50), dim=1)
    return unit_VG, torch.full((count,), 0.33, dtype=torch.float64), torch.arange(count)


def _side(seed: int) -> tuple[Tensor, Tensor]:
    """(value_CK, index_CK) of 128 random neurons: the K of PAIRED words with the largest |value|, the largest first."""
    value_CV = random_normal(128, PAIRED, seed=seed)
    index_CK = value_CV.abs().topk(K, dim=1).indices
    return value_CV.gather(1, index_CK), index_CK
