"""The engine on a GPU's kernels, emulated or not, against the engine on the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from shiftbench import _C
from shiftbench.engine import core_calls
from shiftbench.engine.importance import Tokens, importance
from shiftbench.models.views import views_of
from shiftbench.ops import cuda
from tests.cuda import needs_kernels
from tests.tiny import ARCHITECTURES, tiny_module

pytestmark = needs_kernels
STAGES = ("norm_derivative", "rotary_derivative", "activation_derivative")


@pytest.mark.parametrize("lengths", [(5, 9), (9, 5)], ids=["forward", "reverse"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_importance(architecture: str, lengths: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    module = tiny_module(architecture).double()
    ids = torch.randint(0, 40, (2 + sum(lengths),), generator=torch.Generator().manual_seed(1))

    def found(device: str) -> Tensor:
        module.to(device)
        prompt = slice(2, 2 + lengths[0])
        tokens = Tokens(module.get_input_embeddings()(ids.to(device)), prompt, ids[prompt.stop :].to(device))
        return importance(views_of(module).transformer(), tokens, 2**28)[0].cpu()

    wanted_PR, calls = found("cpu"), set()
    for name in STAGES:
        monkeypatch.setattr(cuda, name, noted(getattr(cuda, name), calls))
    if not _C.has_cuda:
        monkeypatch.setattr(core_calls, "_core", lambda _: cuda)
        monkeypatch.setattr(core_calls, "supports_attention", lambda _: False)
    found_PR = found("cuda" if _C.has_cuda else "cpu")
    assert float(((found_PR - wanted_PR).abs().amax(0) / wanted_PR.abs().amax(0)).max()) < 1e-11
    assert calls >= ({"norm_derivative", "activation_derivative"} if architecture == "gpt2" else set(STAGES))


def noted(function: Callable[..., Any], calls: set[str]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        calls.add(function.__name__)
        return function(*arguments)

    return call
