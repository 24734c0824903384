"""The compiled core of an installed wheel loads and knows this CPU: python tests/wheel/core.py

A small check for the container in which cibuildwheel builds; it needs neither torch nor any other package.
tests/wheel/check.py runs the whole job later.
"""

from pathlib import Path

import shiftbench
from shiftbench import _C


def main() -> None:
    """Raise where the module is not the wheel's, was built for GPUs, or finds no instruction set that it can run."""
    package = Path(shiftbench.__file__).parent
    assert "site-packages" in package.parts, f"{package} is not the installed package"
    assert not _C.has_cuda, "wheels are built without CUDA (SHIFTBENCH_CUDA=OFF)"
    instructions = _C.instructions()
    assert instructions, "the core has no kernels for this CPU"
    _C.set_threads(2)
    assert _C.get_threads() == 2
    print(f"the core of shiftbench {shiftbench.__version__} loads; this CPU runs {', '.join(instructions)}")


if __name__ == "__main__":
    main()
