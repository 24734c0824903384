import pytest

from shiftbench import _C


@pytest.fixture(params=_C.instructions())
def instructions(request):
    """Every instruction set of this CPU that the core is compiled for."""
    before = _C.get_instructions()
    _C.set_instructions(request.param)
    yield request.param
    _C.set_instructions(before)
