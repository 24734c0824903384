"""Times word pairs of all heads and components, and estimates the time of a whole pair of 7B models from its parts."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import GenerationConfig

from shiftbench import ops
from shiftbench.contracts.explainer import Inputs
from shiftbench.engine.product import Precision
from shiftbench.explain import attention
from shiftbench.explain.attention import Prepared, WordPairs
from shiftbench.explain.feedforward import principal_components
from shiftbench.explain.reading import component_words
from shiftbench.models.model import tensor_digest
from shiftbench.perf.agreement import Agreement, column_agreement
from shiftbench.perf.paper import evenly_spread
from shiftbench.words import StaticVectors, Vocabulary
from tests.perf.gpu_bench.bench import Bench, case
from tests.perf.rows import Row, ratio_rows
from tests.perf.targets import ALL_LAYERS, END_TO_END

K, REFERENCE, DEVIATIONS, TOP = 100, 3000, 1.96, 50  # the values of conf/explain
PROMPTS, RESPONSE = 100, 200  # prompts of a whole pair; tokens of a response, max_new_tokens of conf/config.yaml
SVD_SHARE = 2  # the timed SVD on the CPU has sides of the model's width divided by this


def word_pairs(bench: Bench) -> Iterator[Row]:
    """The explainer on all heads of some layers; then its op alone, beside a table of all pairs of words."""
    sizes, model = bench.sizes, bench.model
    words = tuple(f"w{i}" for i in range(min(sizes.words, sizes.vocabulary)))
    vectors_VG = bench.random_normal(len(words), sizes.vector_width, seed=1).cpu()
    vectors = StaticVectors("random", {word: i for i, word in enumerate(words)}, vectors_VG)
    inputs = Inputs((), Vocabulary(words, "made up"), vectors)
    k = min(K, len(words) // 5)
    method = WordPairs(k, min(REFERENCE, len(words)), DEVIATIONS)
    chosen = evenly_spread(sizes.layers, sizes.timed_layers)
    method._unit(Prepared(method, model, inputs), chosen[0])  # warm up
    attention._cooccurrence.cache_clear()
    prepared = Prepared(method, model, inputs)
    shared, _ = bench.once(prepared._prepare)
    each = [bench.once(lambda layer=layer: method._unit(prepared, layer))[0] for layer in chosen]  # type: ignore[misc]
    seconds = shared + statistics.median(each) * sizes.layers
    bench.seconds["word pairs"] = seconds
    part = f"extrapolated from {len(chosen)} of {sizes.layers} layers, random weights and vectors, {len(words):,} words"
    note = f"{part}; {statistics.median(each):.3g} s a layer, {shared:.3g} s for what they share"
    yield Row("word pairs", sizes.model, ALL_LAYERS, seconds, "s", rounds=len(chosen), ours_s=seconds, note=note)
    yield from _pairs_alone(bench, prepared, k)


def _pairs_alone(bench: Bench, prepared: Prepared, k: int) -> Iterator[Row]:
    """ops.word_pairs on a layer, beside a lookup in a table of all pairs of words, with the same order of results."""
    embedding_VD, cooccurrence = prepared._prepare()
    views = bench.model.views
    query, key = prepared._top_words(embedding_VD, views.query_HDE(0), views.key_HDE(0))
    first_V, other_N, cosine_N = given = cooccurrence.cooccurring
    words = len(first_V) - 1
    table_VV = cosine_N.new_full((words, words), -torch.inf)
    word_N = torch.repeat_interleave(torch.arange(words, device=bench.device), first_V.diff())
    table_VV[word_N, other_N.long()] = cosine_N

    def by_table() -> tuple[Tensor, ...]:
        cosine_CKK = table_VV[query[1][:, :, None], key[1][:, None, :]]
        kept_CKK = (query[0][:, :, None] * key[0][:, None, :] > 0) & (cosine_CKK > -torch.inf)
        neuron_N, at_query_N, at_key_N = kept_CKK.nonzero(as_tuple=True)
        cosine = cosine_CKK[kept_CKK]
        order_N = cosine.argsort(descending=True, stable=True)
        order_N = order_N[neuron_N[order_N].argsort(stable=True)]
        found = (neuron_N, query[1][neuron_N, at_query_N], key[1][neuron_N, at_key_N], cosine)
        return tuple(part[order_N] for part in found)

    compared = bench.compare(lambda: ops.word_pairs(given, *query, *key), {"table of all pairs": by_table}, rounds=3)
    ours, theirs = compared.ours.result, compared.peers["table of all pairs"].result
    same = all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    text = (
        f"all {len(ours[0]):,} word pairs equal" if same else f"{len(ours[0])} and {len(theirs[0])} word pairs differ"
    )
    name = f"a layer's {len(query[0]):,} neuron pairs, k {k}"
    peer = {"table of all pairs": Agreement(text, same)}
    yield from ratio_rows("word pairs", name, compared, peer, {"table of all pairs": f"of {words:,} words, torch"})


def components(bench: Bench) -> Iterator[Row]:
    """A layer's principal components beside torch's SVD in float32, and the words of a layer's concepts."""
    sizes = bench.sizes
    down_FD = bench.model.views.down_FD(0)
    rank = min(sizes.rank, sizes.width // 2)

    def svd() -> Tensor:
        return torch.linalg.svd(down_FD - down_FD.mean(0), full_matrices=False).Vh[:rank]

    principal_components(
        down_FD[:, : sizes.width // 8], rank
    )  # initialises the libraries; a warm-up at full size would take long
    ours_s, (component_CD, _) = bench.once(lambda: principal_components(down_FD, rank))
    compared = bench.compare(lambda: principal_components(down_FD, rank)[0], {}, rounds=1)
    bench.seconds["components"] = min(ours_s, *compared.ours.seconds)
    theirs_s, theirs_CD = bench.once(svd)
    theirs_CD = theirs_CD.cpu().double()
    sign_C1 = (component_CD * theirs_CD).sum(1, keepdim=True).sign()
    found = column_agreement((component_CD * sign_C1).T, theirs_CD.T)
    name, note = f"{sizes.model} layer's down-projection", f"float32, one call; {rank} components"
    ratio = theirs_s / bench.seconds["components"]
    yield Row(
        "components", name, "torch svd", ratio, "x", ours_s=bench.seconds["components"], theirs_s=theirs_s,
        agreement=found.text, agrees=found.ok, note=note,
    )  # fmt: skip
    words = min(sizes.words, sizes.vocabulary)
    unit_VD = torch.nn.functional.normalize(bench.model.views.embedding_out_VD()[:words], dim=1)
    compared = bench.compare(lambda: component_words(unit_VD, component_CD, min(TOP, words)), {}, rounds=3)
    bench.seconds["component words"] = statistics.median(compared.ours.seconds)


def rest(bench: Bench) -> Iterator[Row]:
    """The other stages of a pair, each extrapolated from a part: responses, digests, rotation's decompositions."""
    sizes, module = bench.sizes, bench.model.module
    given = case(sizes.vocabulary, 32, 1)
    ids = torch.tensor([given.prompt.prompt_ids], device=bench.device)

    def answer(tokens: int) -> Tensor:
        wanted = GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0)
        with torch.no_grad():
            return module.generate(ids, attention_mask=torch.ones_like(ids), generation_config=wanted)

    answer(2)
    seconds, _ = bench.once(lambda: answer(sizes.generated))
    bench.seconds["a token of an answer"] = seconds / sizes.generated
    part = f"extrapolated from {sizes.generated} tokens"
    yield Row(
        "whole pair", sizes.model, "an answer of 200 tokens", RESPONSE * seconds / sizes.generated, "s", note=part
    )

    layer = module.model.layers[0]
    bytes_of = sum(p.nbytes for p in layer.parameters())
    seconds, _ = bench.once(lambda: [tensor_digest(p) for p in layer.parameters()])
    seconds *= sum(p.nbytes for p in module.parameters()) / bytes_of
    bench.seconds["digest"] = seconds
    note = "extrapolated from one layer, one thread; tensors are hashed by several"
    yield Row("whole pair", sizes.model, "digest of the weights", seconds, "s", note=note)

    side = sizes.width // SVD_SHARE
    square_DD = torch.randn(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seconds, _ = bench.once(lambda: torch.linalg.svd(square_DD))
    seconds *= SVD_SHARE**3 * 2 * sizes.layers  # in every layer, of the change and of the permuted change
    bench.seconds["rotation"] = seconds
    note = f"two a layer, on the CPU ({torch.get_num_threads()} threads); from one of {side:,} x {side:,}, as its cube"
    yield Row("whole pair", sizes.model, "rotation's decompositions", seconds, "s", note=note)


def whole_pair(bench: Bench) -> Iterator[Row]:
    """The estimated minutes for a pair on 100 prompts of the published lengths, in bfloat16 and in float32.

    A pair needs the responses of both models, three attributions (the base model also explains the tuned model's
    responses), word pairs and components of both models, and the rotation between them. Loading, hashing and storing
    are left out, because their time depends on the machine's disks.
    """
    sizes, seconds = bench.sizes, bench.seconds
    drawn = json.loads((Path(__file__).parents[1] / "drawn_lengths.json").read_text())["pairs"]
    answered = PROMPTS * sum(min(response, RESPONSE) for _, response in drawn) / len(drawn)
    rows = [
        prompt * r + min(prompt, r) ** 2 / 2 for prompt, r in ((p, min(response, RESPONSE)) for p, response in drawn)
    ]
    once = {
        "answers": 2 * answered * seconds["a token of an answer"],
        "word pairs": 2 * seconds["word pairs"],
        "components": 2 * sizes.layers * (seconds["components"] + seconds["component words"]),
        "rotation": seconds["rotation"],
    }
    for precision, against in ((Precision.BFLOAT16, "estimate"), (Precision.FLOAT32, "estimate, float32")):
        of_row = []
        for prompt, response in sizes.lengths:
            timed = seconds[f"attribution, {precision.value}, {prompt}, {response}"]
            of_row.append(timed / (prompt * response + min(prompt, response) ** 2 / 2))
        parts = {"attribution": 3 * PROMPTS * sum(rows) / len(rows) * max(of_row), **once}
        text = ", ".join(f"{name} {part / 60:.2g}" for name, part in parts.items())
        note = f"minutes: {text}; from the parts above, loading and storing left out"
        name = f"{sizes.model} {END_TO_END}"
        yield Row("whole pair", name, against, sum(parts.values()) / 60, "min", note=note)
