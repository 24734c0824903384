"""A rotated change has the singular values of tuning's change, and nothing else of it."""

import peft
import pytest
import torch

from shiftbench import models
from shiftbench.config.composition import compose
from shiftbench.controls import WeightNull
from shiftbench.controls.drawings import core, permuted, rotated
from shiftbench.models import wrap
from shiftbench.pipeline.job import build
from tests.tiny import tiny_module, tiny_tokenizer

EPS = torch.finfo(torch.float32).eps


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def matrix(rows, columns, rank, seed=0):
    """A matrix of this rank with singular values that fall by half."""
    random = generator(seed)
    left, right = (
        torch.linalg.qr(torch.randn(size, rank, generator=random, dtype=torch.float64)).Q for size in (rows, columns)
    )
    return (left * 0.5 ** torch.arange(rank, dtype=torch.float64)) @ right.T


@pytest.mark.parametrize(("rows", "columns"), [(192, 64), (64, 192), (100, 100), (400, 7)])
@pytest.mark.parametrize("rank", [1, 4, 20, 64])
def test_the_singular_values_stay(rows, columns, rank):
    change = matrix(rows, columns, min(rank, rows, columns))
    found = rotated(change, generator(), 1e-12)
    wanted = torch.linalg.svdvals(change)
    assert torch.allclose(torch.linalg.svdvals(found), wanted, atol=1e-11)
    assert float((found * change).sum()) < 0.5 * float(change.square().sum()), "the directions do not stay"
    assert not torch.allclose(torch.linalg.svdvals(permuted(change, generator(), 0.0)), wanted, atol=1e-2)


def test_a_low_rank_needs_no_square_matrix_of_the_whole_width():
    """The rounding errors of a merged adapter, which have full rank, do not count."""
    change = matrix(512, 256, 8)
    base = torch.randn(512, 256, generator=generator(1))
    merged = (base + change.float()).double() - base.double()
    rounding = EPS * float(base.norm())
    assert core(merged, rounding).shape == (16, 16) and core(merged, 0.0).shape == (256, 256)
    assert torch.allclose(torch.linalg.svdvals(core(merged, rounding))[:8], torch.linalg.svdvals(change)[:8], atol=1e-4)


def test_directions_are_uniformly_distributed():
    """Each entry of a random direction has mean 0 and mean square 1 / width; four standard errors are allowed."""
    change = matrix(12, 8, 1)
    drawn = torch.stack([rotated(change, generator(seed), 1e-12) for seed in range(2000)])
    expected = 1 / (12 * 8)
    assert float(drawn.mean(0).abs().max()) < 4 * (expected / 2000) ** 0.5
    assert torch.allclose(drawn.square().mean(0), torch.tensor(expected).double(), rtol=0.35)


@pytest.fixture
def adapted(tmp_path):
    """The job of a tiny model and a LoRA of rank 2 on it, which is merged when it is loaded."""
    base, adapter = str(tmp_path / "base"), str(tmp_path / "adapter")
    tiny_module("llama").save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    torch.manual_seed(0)
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    peft.get_peft_model(tiny_module("llama"), lora).save_pretrained(adapter)
    return build(compose("config", ["pair=local", f"pair.base={base}", f"pair.tuned={adapter}", "vectors=model"]))


def test_a_null_model_of_an_adapter_keeps_its_rank_and_is_the_same_again(adapted):
    control = WeightNull("rotated", 2, 0, "all")
    before, after = (
        dict(models.load(source).module.named_parameters()) for source in (adapted.pair.base, adapted.pair.tuned)
    )
    changed = 0
    for name, tensor in before.items():
        first = control.drawn(name, tensor, after[name], 0)
        assert torch.equal(first, control.drawn(name, tensor, after[name], 0))
        if torch.equal(tensor, after[name]):
            assert torch.equal(first, tensor)
            continue
        changed += 1
        values = torch.linalg.svdvals((first - tensor).double())
        assert torch.allclose(values, torch.linalg.svdvals((after[name] - tensor).double()), atol=1e-5)
        assert not torch.equal(first, control.drawn(name, tensor, after[name], 1))
        assert not torch.equal(first, WeightNull("rotated", 2, 1, "all").drawn(name, tensor, after[name], 0))
    assert changed == 4


PAIRS = ("demo", "demo_lora")


def test_auto_is_rotated_for_an_adapter_and_permuted_for_other_models(adapted):
    assert adapted.control.kind == "rotated" and adapted.control.name == "weights"
    full, lora = (build(compose("config", [f"pair={name}", "control=random"])).control for name in PAIRS)
    assert (full.kind, lora.kind) == ("permuted", "rotated")
    # One name in scores.json, so that a leaderboard holds both pairs.
    assert full.name == lora.name == "random"
    assert WeightNull("permuted", 2, 0, "all").name == "permuted"


def test_views_draw_the_same_weights_as_the_whole_model():
    with wrap(tiny_module("llama"), tiny_tokenizer()) as base, wrap(tiny_module("llama", 1), tiny_tokenizer()) as tuned:
        for kind in ("permuted", "gaussian", "rotated"):
            control = WeightNull(kind, 2, 0, "all")
            whole, views = control.models(base, tuned)(1), control.views(base, tuned, 1)
            assert whole.weights_digest == views.weights_digest
            for read in (
                lambda model: model.views.embedding_in_VD(),
                lambda model: model.views.embedding_out_VD(),
                lambda model: model.views.query_HDE(1),
                lambda model: model.views.key_HDE(0),
                lambda model: model.views.down_FD(1),
            ):
                assert torch.equal(read(whole), read(views)) and not torch.equal(read(views), read(tuned))
