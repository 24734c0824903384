import pytest
import torch

from shiftbench import _C


def drawn(*shape, seed=0, dtype=torch.float64):
    """Normal numbers, the same in every dtype."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.fixture(params=_C.instructions())
def instructions(request):
    """Every instruction set of this CPU that the core is compiled for."""
    before = _C.get_instructions()
    _C.set_instructions(request.param)
    yield request.param
    _C.set_instructions(before)
