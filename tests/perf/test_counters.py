"""Counters are exact: they equal the numbers computed from the shapes, and they rise where work is added."""

import pytest
import torch

from shiftbench import ops
from shiftbench.perf import baseline, counters, hot_spots
from shiftbench.perf.counters import allocations, attribution, flops

ONE_THREAD = 1


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(ONE_THREAD)
    yield
    torch.set_num_threads(before)


def test_products_of_every_torch_function_are_counted():
    a, b = torch.randn(16, 5), torch.randn(5, 7)
    assert flops(lambda: a @ b)["flops"] == 2 * 16 * 5 * 7
    assert flops(lambda: torch.addmm(torch.zeros(7), a, b))["flops"] == 2 * 16 * 5 * 7
    assert flops(lambda: hot_spots.product(a, b))["flops"] == 2 * 16 * 5 * 7
    assert flops(lambda: torch.bmm(a[None].expand(3, -1, -1), b[None].expand(3, -1, -1)))["flops"] == 6 * 16 * 5 * 7


def test_products_inside_our_operators_are_counted():
    unit_VG = torch.nn.functional.normalize(torch.randn(300, 20), dim=1)
    count = flops(lambda: ops.cooccurrence(unit_VG, torch.full((300,), 0.9, dtype=torch.float64), torch.arange(300)))
    assert count["flops"] == 2 * 300 * 300 * 20


def test_bytes_of_results_are_counted_and_those_of_views_are_not():
    a = torch.randn(8, 8)
    assert allocations(lambda: a.T)["bytes_allocated"] == 0
    assert allocations(lambda: a + 1)["bytes_allocated"] == 256
    assert allocations(lambda: a.add_(1))["bytes_allocated"] == 0
    topk = allocations(lambda: ops.vocab_topk(a, a, 2))
    assert topk == {"flops": 0, "bytes_allocated": 8 * 2 * (4 + 8)}


def test_a_second_forward_pass_and_more_rows_raise_the_counters():
    """With too little memory, the engine computes the forward pass of its layers again."""
    model, case = hot_spots.small_model(), hot_spots.random_case(20, 6)
    roomy = attribution(lambda: hot_spots.attribute(model, case))
    tight = attribution(lambda: hot_spots.importance(model, case.prompt, case.response, 1))
    assert roomy["layers_forward"] == hot_spots.LAYERS < tight["layers_forward"]
    assert roomy["flops"] < tight["flops"] and tight["bytes_kept"] < roomy["bytes_kept"]
    longer = attribution(lambda: hot_spots.attribute(model, hot_spots.random_case(40, 6)))
    assert longer["flops"] > roomy["flops"]


def test_the_engines_yardstick_has_most_of_its_products():
    model, case = hot_spots.small_model(), hot_spots.random_case(12, 40)
    bare = flops(hot_spots.bare_product(model, case))["flops"]
    named = [(n, p.numel()) for n, p in model.module.named_parameters() if ".layers." in n and p.ndim == 2]
    after_last_attention = [n for n, _ in named if ".layers.2." in n and ("mlp" in n or "o_proj" in n)]
    gates = [n for n, _ in named if "gate_proj" in n]
    assert len(after_last_attention) == 4 and len(gates) == 3
    assert bare == 2 * 12 * 40 * sum(size for n, size in named if n not in after_last_attention and n not in gates)
    forward = 2 * (12 + 40 - 1) * sum(size for _, size in named)
    assert bare < attribution(lambda: hot_spots.attribute(model, case))["flops"] - forward < 1.15 * bare


def test_every_hot_spot_has_exactly_the_counts_of_the_packages_baseline():
    """The counts are equal on every machine, so the baseline can be a hard limit."""
    committed = baseline.read(None).counters
    found = {spot.name: dict(spot.count(spot.ours)) for spot in hot_spots.hot_spots()}
    assert found == committed
    again = {spot.name: dict(spot.count(spot.ours)) for spot in hot_spots.hot_spots()}
    assert again == found


def test_kept_bytes_do_not_include_the_models_weights():
    model, case = hot_spots.small_model(), hot_spots.random_case(12, 40)
    weights = sum(p.numel() * 4 for p in model.module.parameters())
    assert 0 < counters.attribution(lambda: hot_spots.attribute(model, case))["bytes_kept"] < weights
