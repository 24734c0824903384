"""Derivatives in TF32 and bfloat16: close to float32, with the same forward pass, and without lasting settings."""

import gc
import weakref

import pytest
import torch

from shiftbench.engine import importance, product, segmented_forward
from shiftbench.engine.importance import Tokens
from shiftbench.engine.product import Precision, _bfloat16_product
from shiftbench.models.block import Linear
from shiftbench.models.views import views_of
from tests.engine.test_importance import EVERYTHING, drawn
from tests.tiny import ARCHITECTURES, tiny_module


def tiny_case(architecture="llama", prompt=12, response=15, **change):
    """(the model as data, tokens) of a tiny float32 model."""
    module = tiny_module(architecture, **change)
    ids = drawn(prompt + response)
    tokens = Tokens(module.get_input_embeddings()(torch.tensor(ids)), slice(0, prompt), torch.tensor(ids[prompt:]))
    return views_of(module).transformer(), tokens


def worst_error(found_PR, wanted_PR):
    return float(((found_PR - wanted_PR).abs().amax(0) / wanted_PR.abs().amax(0)).max())


@pytest.mark.parametrize("memory", [EVERYTHING, 1], ids=["all cached", "a layer at a time"])
@pytest.mark.parametrize("lengths", [(12, 15), (15, 12)], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bfloat16_rounds_derivatives_alone(architecture, lengths, memory):
    model, tokens = tiny_case(architecture, *lengths)
    wanted_PR, wanted_R = importance.importance(model, tokens, EVERYTHING)
    found_PR, found_R = importance.importance(model, tokens, memory, Precision.BFLOAT16)
    assert found_PR.dtype == torch.float32 and torch.equal(found_R, wanted_R)
    assert 1e-5 < worst_error(found_PR, wanted_PR) < 0.1


@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_has_the_error_of_its_rounded_operands(transposed):
    draw = torch.Generator().manual_seed(0)
    x_NI = torch.randn(48, 64, generator=draw)
    weight = torch.randn(32, 64, generator=draw).T if transposed else torch.randn(64, 32, generator=draw)
    linear = Linear(weight)
    wanted_NO = x_NI.bfloat16().double() @ weight.bfloat16().double()
    for found_NO in (
        Precision.BFLOAT16.linear_jvp(x_NI, linear),
        Precision.BFLOAT16.linear_vjp(x_NI, Linear(weight.T)),
        Precision.BFLOAT16.add_linear_jvp(torch.ones(48, 32), x_NI, linear) - 1,
        Precision.BFLOAT16.add_linear_vjp(torch.ones(48, 32), x_NI, Linear(weight.T)) - 1,
    ):
        assert found_NO.dtype == torch.float32
        # One more rounding, of the CPU's result.
        assert torch.allclose(found_NO.double(), wanted_NO, rtol=2**-8, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_keeps_the_sums_in_float32():
    draw = torch.Generator().manual_seed(0)
    x_NI, weight = (torch.randn(shape, generator=draw).cuda() for shape in ((48, 64), (64, 32)))
    wanted_NO = x_NI.bfloat16().double() @ weight.bfloat16().double()
    for view in (weight, weight.T.contiguous().T):
        assert torch.allclose(_bfloat16_product(x_NI, view.bfloat16()).double(), wanted_NO, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", [Precision.TF32, Precision.BFLOAT16])
@pytest.mark.parametrize("lengths", [(12, 15), (15, 12)], ids=str)
def test_a_gpu_is_close_in_every_precision(precision, lengths):
    module = tiny_module("llama").cuda()
    ids = torch.tensor(drawn(sum(lengths))).cuda()
    tokens = Tokens(module.get_input_embeddings()(ids), slice(0, lengths[0]), ids[lengths[0] :])
    model = views_of(module).transformer()
    wanted_PR, wanted_R = importance.importance(model, tokens, EVERYTHING)
    found_PR, found_R = importance.importance(model, tokens, EVERYTHING, precision)
    assert torch.equal(found_R, wanted_R)
    assert 0 < worst_error(found_PR, wanted_PR) < 0.1


def test_a_weight_is_rounded_once_and_freed_with_its_model():
    model, tokens = tiny_case()
    importance.importance(model, tokens, EVERYTHING, Precision.BFLOAT16)
    up = model.blocks[0].feed_forward.up
    first = up.bfloat16_IO
    assert first.stride() == up.weight_IO.stride()
    importance.importance(model, tokens, EVERYTHING, Precision.BFLOAT16)
    assert up.bfloat16_IO is first and up.bfloat16_IO.T.data_ptr() == first.data_ptr()
    gone = weakref.ref(first)
    del model, up, first
    gc.collect()
    assert gone() is None


def test_in_float32_no_weight_is_rounded():
    model, tokens = tiny_case()
    importance.importance(model, tokens, EVERYTHING)
    assert all("bfloat16_IO" not in vars(block.attention.query) for block in model.blocks)


@pytest.mark.parametrize("lengths", [(12, 15), (15, 12)], ids=str)
def test_tf32_is_in_force_for_the_derivatives_alone(lengths, monkeypatch):
    model, tokens = tiny_case("llama", *lengths)
    seen = {"forward": set(), "top_directions": set(), "run_chunks": set()}
    for name, where in {"forward": segmented_forward, "top_directions": importance, "run_chunks": importance}.items():
        step = getattr(where, name)

        def recording(*given, name=name, step=step, **named):
            seen[name].add(torch.backends.cuda.matmul.allow_tf32)
            return step(*given, **named)

        monkeypatch.setattr(where, name, recording)
    wanted_PR, _ = importance.importance(model, tokens, 1)
    assert seen == {"forward": {False}, "top_directions": {False}, "run_chunks": {False}}
    seen["run_chunks"].clear()
    found_PR, _ = importance.importance(model, tokens, 1, Precision.TF32)
    assert seen == {"forward": {False}, "top_directions": {False}, "run_chunks": {True}}
    assert torch.equal(found_PR, wanted_PR)  # a CPU does not compute in TF32


def test_tf32_leaves_torchs_setting_as_it_was():
    before = torch.get_float32_matmul_precision()
    try:
        for setting in ("high", "highest"):
            torch.set_float32_matmul_precision(setting)
            with pytest.raises(KeyError), Precision.TF32.torch_setting():
                assert torch.backends.cuda.matmul.allow_tf32
                raise KeyError
            assert torch.get_float32_matmul_precision() == setting
            assert torch.backends.cuda.matmul.allow_tf32 == (setting == "high")
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("older", ["high", "highest"])
@pytest.mark.parametrize("newer", ["ieee", "tf32"])
def test_tf32_works_with_torchs_newer_setting_too(older, newer):
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("torch before 2.9")
    before = torch.get_float32_matmul_precision(), matmul.fp32_precision
    torch.set_float32_matmul_precision(older)
    try:
        matmul.fp32_precision = (
            newer  # where the two settings contradict each other, torch may refuse to read the older one
        )
        with Precision.TF32.torch_setting():
            assert matmul.fp32_precision == "tf32"
        assert matmul.fp32_precision == newer
    finally:
        torch.set_float32_matmul_precision(before[0])
        matmul.fp32_precision = before[1]


def test_fast_linears_are_the_modules_own_and_leave_no_trace():
    module = tiny_module("llama")
    ids = torch.tensor([drawn(9)])
    with torch.no_grad():
        wanted = module(ids).logits
        with product.fast_linears(module):
            found = module(ids).logits
            patched = [part for part in module.modules() if "forward" in vars(part)]
    with torch.no_grad():
        exact = module.double()(ids).logits
    for logits in (wanted, found):  # either rounds in an order of its own
        assert (logits - exact).abs().max() <= 1e-5 * exact.abs().max()
    assert bool(patched) == product._has_onednn()
    assert not any("forward" in vars(part) for part in module.modules())
