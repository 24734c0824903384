"""The core's parts of a forward pass against their formulas in float64, in all instruction sets."""

import pytest
import torch

from shiftbench.engine import forward
from shiftbench.engine.schedule import threads_each
from shiftbench.models.block import Attention, Linear, Norm
from tests.engine.conftest import drawn

ERROR = {torch.float32: 1e-6, torch.float64: 1e-14}  # of the largest number


def close(found, wanted, error):
    assert found.shape == wanted.shape and found.is_contiguous()
    return float((found - wanted).abs().max()) <= error * max(1.0, float(wanted.abs().max()))


@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (50, 576), (5, 3, 20)], ids=str)
@pytest.mark.parametrize("centred", [False, True], ids=["root mean square", "centred"])
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
def test_norm(biased, centred, shape, dtype, instructions):
    x, gain_D = drawn(*shape, dtype=dtype) + 0.5, drawn(shape[-1], seed=1, dtype=dtype)
    bias_D = drawn(shape[-1], seed=2, dtype=dtype) if biased else None
    out, cache = forward.apply_norm(Norm(gain_D, 1e-5, centred, bias_D), x)
    wide = x.double()
    centre = wide - wide.mean(-1, keepdim=True) if centred else wide
    rho = 1 / (centre.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    assert close(cache.rho, rho, ERROR[dtype]) and close(cache.hat, centre * rho, ERROR[dtype])
    wanted = centre * rho * gain_D.double() + (bias_D.double() if biased else 0.0)
    assert close(out, wanted, 2 * ERROR[dtype])


def test_norm_of_rows_that_are_not_contiguous():
    x, norm = drawn(6, 10, dtype=torch.float32)[:, ::2], Norm(torch.ones(5), 1e-5)
    assert torch.equal(forward.apply_norm(norm, x)[0], forward.apply_norm(norm, x.contiguous())[0])


# (key heads, group, tokens, width): one token, less than a vector, just a block of queries, and several.
SHAPES = [(1, 1, 1, 2), (2, 1, 5, 6), (1, 3, 48, 16), (3, 2, 131, 20), (2, 3, 97, 64)]


@pytest.mark.parametrize("dtype", ERROR)
@pytest.mark.parametrize("cap", [None, 2.0], ids=["no cap", "cap"])
@pytest.mark.parametrize("window", [None, 1, 7, 60], ids=["all", "itself", "7", "60"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(shape, window, cap, dtype, instructions):
    key_heads, group, tokens, width = shape
    spec = attention(key_heads, group, width, cap, window)
    query_KGTE = 3.0 * drawn(key_heads, group, tokens, width, seed=1, dtype=dtype)
    key_KTE, value_KTE = (drawn(key_heads, tokens, width, seed=seed, dtype=dtype) for seed in (2, 3))
    found = forward.attend_causally(spec, query_KGTE, key_KTE, value_KTE)
    logit = spec.scale * query_KGTE.double() @ key_KTE.double().mT[:, None]
    slope = torch.ones_like(logit)
    if cap is not None:
        slope = 1 - (logit / cap).tanh().square()
        logit = cap * (logit / cap).tanh()
    probability = logit.masked_fill(~forward.seen_mask(spec, tokens, tokens, logit.device), -torch.inf).softmax(-1)
    wanted = probability @ value_KTE.double()[:, None], probability, probability * slope
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == dtype and close(one, other, 4 * ERROR[dtype])
    assert torch.equal(found[1] == 0, probability == 0)  # exactly the visible keys have a probability


def attention(key_heads, group, width, cap=None, window=None):
    heads = key_heads * group
    linear = Linear(torch.zeros(1, heads * width))
    return Attention(linear, linear, linear, linear, heads, key_heads, width**-0.5, cap=cap, window=window)


@pytest.mark.parametrize("size", [1e-30, 1e3, 1e18], ids=str)
def test_attention_with_extreme_logits(size, instructions):
    spec = attention(1, 2, 8)
    query_KGTE = size * drawn(1, 2, 60, 8, dtype=torch.float32)
    key_KTE = drawn(1, 60, 8, seed=1, dtype=torch.float32)
    mixed, probability, _ = forward.attend_causally(spec, query_KGTE, key_KTE, key_KTE)
    assert torch.isfinite(mixed).all()
    assert torch.allclose(probability.sum(-1), torch.ones(1, 2, 60))
    if size > 1e15:
        assert float(probability.amax(-1).min()) > 0.99


@pytest.mark.parametrize("with_rotation", [False, True], ids=["as they are", "rotated"])
def test_split_heads(with_rotation, instructions):
    x_TO, angle_TE = drawn(37, 3 * 20, dtype=torch.float32), drawn(37, 20, seed=1, dtype=torch.float32)
    rotary = (angle_TE.cos(), angle_TE.sin()) if with_rotation else None
    found = forward.split_heads(x_TO, 20, rotary)
    wanted = forward.rotate(x_TO.double().unflatten(1, (3, 20)), rotary).transpose(0, 1)
    assert close(found, wanted, 1e-6)


def test_threads_share_the_work():
    spec = attention(3, 3, 16)
    query_KGTE, key_KTE = drawn(3, 3, 120, 16, dtype=torch.float32), drawn(3, 120, 16, seed=1, dtype=torch.float32)
    found = []
    for threads in (1, 2, 7):
        with threads_each(threads):
            found.append(forward.attend_causally(spec, query_KGTE, key_KTE, key_KTE))
    assert all(torch.equal(a, b) for one in found[1:] for a, b in zip(one, found[0], strict=True))
