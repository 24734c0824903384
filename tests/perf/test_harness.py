"""The benchmark finds what is planted: a wrong result, a slower side, a row that misses its target."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest
import torch

from shiftbench.engine.product import STEP
from shiftbench.models import Model
from shiftbench.perf import paper
from shiftbench.perf.agreement import column_agreement, ranking_agreement, value_agreement
from shiftbench.perf.cases import Case
from shiftbench.perf.timing import Sampled
from tests import reference
from tests.perf import memory, models, peers, spent
from tests.perf.benchmark_rounds import alternate
from tests.perf.rows import Results, Row, ratio_rows, table
from tests.perf.targets import LENGTHS, LOOP, SMOL, TARGETS, Target, lengths
from tests.tiny import tiny_module, tiny_tokenizer

CASE = lengths(SMOL, *LENGTHS[0])


@pytest.fixture
def benchmark(benchmark):
    """pytest-benchmark's fixture, which times nothing beside pytest-xdist. No test here needs a quiet machine."""
    benchmark.disabled = False
    return benchmark


def test_a_planted_twofold_slowdown_gives_a_ratio_of_one_half(benchmark):
    def slow(_):
        time.sleep(0.2)  # long compared with what a busy machine adds to a sleep

    def quick(_):
        time.sleep(0.1)

    compared = alternate(benchmark, slow, {"peer": quick}, [None] * 5)
    value, low, high = compared.ratio("peer")
    assert value == pytest.approx(0.5, rel=0.2) and low <= value <= high
    assert compared.total_ratio("peer") == pytest.approx(0.5, rel=0.3)


def test_rounds_alternate_on_the_same_inputs(benchmark):
    seen = []
    peers = {name: lambda given, name=name: seen.append((name, given)) for name in ("a", "b")}
    alternate(benchmark, lambda given: seen.append(("ours", given)), peers, [1, 2])
    assert seen == [("a", 1), ("b", 1), ("ours", 1), ("a", 2), ("b", 2), ("ours", 2)]


def test_the_seconds_of_a_sampled_peer_are_extrapolated(benchmark):
    compared = alternate(
        benchmark, lambda _: time.sleep(0.01), {"peer": lambda _: Sampled("part", 1.0, "1 of 9")}, [None] * 3
    )
    assert compared.peers["peer"].seconds == [1.0] * 3 and compared.peers["peer"].result == "part"
    (row,) = ratio_rows("attribution", CASE, compared, {}, {})
    assert row.note == "1 of 9" and row.value == pytest.approx(100, rel=0.3)


def test_a_planted_wrong_column_is_reported_beside_a_fast_ratio(benchmark):
    right_PR = torch.rand(5, 6, generator=torch.Generator().manual_seed(0)) + 0.5
    wrong_PR = right_PR.clone()
    wrong_PR[:, 3] *= -1
    assert "worst column 2e+00" in column_agreement(wrong_PR, right_PR).text
    assert column_agreement(right_PR, right_PR).ok and not column_agreement(-right_PR, right_PR).ok
    compared = alternate(benchmark, lambda _: -right_PR, {LOOP: lambda _: time.sleep(0.02) or right_PR}, [None] * 2)
    agreement = column_agreement(compared.ours.result, compared.peers[LOOP].result)
    (row,) = ratio_rows("attribution", CASE, compared, {LOOP: agreement}, {})
    assert row.value > TARGETS[row.key].at_least and row.reaches_target is False
    assert "WRONG RESULT" in table([row], "")


def test_results_that_cannot_be_compared_do_not_agree():
    nan_PR = torch.full((2, 2), float("nan"))
    assert not column_agreement(nan_PR, torch.ones(2, 2)).ok
    assert not column_agreement(torch.ones(2, 3), torch.ones(2, 2)).ok
    assert not value_agreement(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), 1e-3).ok
    assert column_agreement(torch.ones(2, 3), torch.ones(2, 1), [1]).ok


def test_a_planted_wrong_index_is_reported():
    value = torch.linspace(9, 1, 5000).view(2, -1)
    index = torch.arange(5000).view(2, -1)
    assert ranking_agreement((value, index), (value, index)).text == "all indices equal"
    wrong_value, wrong_index = value.clone(), index.clone()
    wrong_value[0, 1], wrong_index[0, 1] = 5.0, 4999
    found = ranking_agreement((wrong_value, wrong_index), (value, index))
    assert not found.ok and found.text.startswith("1 of 5000 indices differ, by 4e-01")
    swapped = index.clone()
    swapped[0, 1], swapped[0, 2] = index[0, 2], index[0, 1]
    assert (
        not ranking_agreement((value, index.flip(1)), (value, index)).ok
        and ranking_agreement((value, swapped), (value, index)).ok
    )


@pytest.mark.parametrize(("target", "reached", "missed"), [(Target(7, 10), 7.5, 6.5), (Target(700, 350), 650, 800)])
def test_a_target_is_reached_from_the_right_side(target, reached, missed):
    assert target.is_reached(reached) and not target.is_reached(missed)


def test_results_keep_rows_that_were_not_measured_again(tmp_path):
    first = Row("attribution", CASE, LOOP, 6.0, "x")
    Results(tmp_path).add([first, Row("vocab_topk", "small", "faiss-cpu", 9.0, "x")])
    Results(tmp_path).add([dataclasses.replace(first, value=8.0)])
    results = Results(tmp_path)
    assert {row.against: row.value for row in results.ordered()} == {LOOP: 8.0, "faiss-cpu": 9.0}
    document = json.loads(results.path.read_text())
    assert set(document["machine"]) == {"cpu", "threads", "torch"}
    assert document["rows"][0]["met"] is True and document["rows"][0]["at_least"] == 7
    assert "8x" in results.path.with_suffix(".md").read_text()


@pytest.fixture(scope="module")
def tiny():
    return tiny_module("llama").requires_grad_(False)


@pytest.fixture(scope="module")
def case():
    from shiftbench.prompts import Prompt, encode

    tokenizer = tiny_tokenizer()
    prompt = encode(Prompt("p", "Write a short poem", ()), tokenizer)
    return Case(prompt, tuple(range(10, 19)), ("", ""))


def test_the_papers_loop_equals_the_formula(tiny, case):
    wanted_PR = reference.importance(tiny, *case.ids)
    for found_PR in (paper.loop(tiny, case), paper.loop(tiny, case, frozen=True), paper.batched(tiny, case, 4)):
        assert column_agreement(found_PR, wanted_PR, tolerance=1e-4).ok
    assert not any(p.requires_grad or p.grad is not None for p in tiny.parameters())
    assert tiny.config._attn_implementation == "eager"


def test_a_part_of_the_loop_is_extrapolated(tiny, case):
    found = paper.loop(tiny, case, tokens=3)
    assert isinstance(found, Sampled) and found.part == "extrapolated from 3 of 9 tokens"
    assert column_agreement(
        reference.importance(tiny, *case.ids), found.result, paper.evenly_spread(9, 3), tolerance=1e-4
    ).ok


def test_evenly_spread():
    assert paper.evenly_spread(9, 3) == [1, 4, 7] and paper.evenly_spread(2, 5) == [0, 1]


def test_the_searches_equal_the_formula():
    draws = torch.Generator().manual_seed(0)
    embedding_VD, direction_CD = torch.randn(300, 8, generator=draws), torch.randn(5, 8, generator=draws)
    wanted = reference.vocab_topk(embedding_VD, direction_CD, 7)
    for search in (peers.argsort_topk, peers.torch_topk):
        assert ranking_agreement(search(embedding_VD, direction_CD, 7), wanted).ok
    pytest.importorskip("faiss")
    assert ranking_agreement(peers.faiss_topk(embedding_VD, direction_CD, 7), wanted).ok


def test_the_papers_word_pairs_equal_the_formula():
    import numpy as np

    from shiftbench.words import StaticVectors
    from tests.perf.paper_knowledge import Words, neuron_pairs

    draws = torch.Generator().manual_seed(0)
    names = [f"w{i}" for i in range(30)]
    vectors_VG = torch.randn(30, 4, generator=draws)
    vectors = StaticVectors("planted", {name: i for i, name in enumerate(names)}, vectors_VG)
    query_V, key_V = torch.randn(2, 30, generator=draws).unbind()
    wanted = reference.neuron_word_pairs(query_V, key_V, names, vectors_VG, [True] * 30, 10, 20, 0.5)
    found = neuron_pairs(query_V.numpy(), key_V.numpy(), Words(names, vectors, 20, 0.5), 10)
    assert [(names[q], names[w]) for q, w, _ in found] == [(q, w) for q, w, _ in wanted] and wanted
    assert np.allclose([score for *_, score in found], [score for *_, score in wanted], atol=1e-5)


def test_memory_measures_what_is_allocated():
    assert memory.peak(lambda: torch.ones(64 * 2**18).sum()) == pytest.approx(64, abs=8)


def test_the_time_of_an_attribution_is_measured_by_part(tiny, case):
    model = Model("tiny", tiny, tiny_tokenizer(), None, "float32")
    found = spent.spent(model, case)
    # The rows of a tiny model are too few for a cut; all other parts must be found under the engine's own names.
    assert set(found.seconds) == {part.name for part in spent.PARTS} - {"cut"} | {spent.REST}
    assert all(seconds > 0 for seconds in found.seconds.values())
    rows, layers = len(case.prompt.prompt_ids) + len(case.response), models.layer_parameters(tiny)
    assert found.flop["forward pass"] == 2.0 * (rows + -rows % STEP) * layers
    text = spent.table(found, peak=1e9)
    assert text.index("forward pass") < text.index(spent.REST) < text.index("| all |")


def test_flop_floor(tiny, case):
    config = tiny.config
    width, keys = config.hidden_size, config.num_key_value_heads * config.head_dim
    attention_inputs = config.num_attention_heads * config.head_dim + 2 * keys
    layer = width * (attention_inputs + config.num_attention_heads * config.head_dim + 2 * config.intermediate_size)
    prompt, response = len(case.prompt.prompt_ids), 9
    floor = 2 * prompt * response * ((config.num_hidden_layers - 1) * layer + width * attention_inputs)
    assert models.flop_floor(tiny, case) == floor
