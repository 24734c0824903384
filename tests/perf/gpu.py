"""One command that measures shiftbench's core and engine on this machine's CUDA GPU: python tests/perf/gpu.py

It takes less than 9 minutes on an H200. It builds the core for the card in the folder build/, checks every op against
its formula in float64, and times the hot spots beside their peers on the same card. After each part it writes
tests/perf/results/<card>.json and .md. Nothing is downloaded. It needs the packages torch, transformers, numpy and
pybind11, and the programs CMake, Ninja and nvcc. It exits with 1 where a result is wrong. --rehearse runs the same code
on a CPU, at tiny sizes and with emulated kernels.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

BEGAN = time.monotonic()
ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 510  # seconds


def main() -> int:
    wanted = _arguments()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    _own_tests()
    import torch

    from tests.perf.gpu_bench import build

    if not wanted.rehearse and not torch.cuda.is_available():
        print(f"gpu.py: no CUDA device here (torch {torch.__version__}); --rehearse runs it all on the CPU, tiny")
        return 2
    folder = wanted.core or ROOT / "build" / ("gpu-bench-rehearsed" if wanted.rehearse else "gpu-bench")
    if wanted.core is None:
        architecture = None if wanted.rehearse else build.architecture_of(*torch.cuda.get_device_capability())
        build.build(folder, "EMULATED" if wanted.rehearse else "ON", architecture, wanted.deadline)
        print(f"built the core in {folder}: {time.monotonic() - BEGAN:.0f} s so far", flush=True)
    build.use(folder.resolve())
    return _measure(wanted)


def _measure(wanted: argparse.Namespace) -> int:
    import torch

    from tests.perf.gpu_bench.bench import FULL, TINY, Bench
    from tests.perf.gpu_bench.parts import Run, parts
    from tests.perf.rows import RESULTS, Results

    if wanted.rehearse:
        _emulate()
    bench = Bench(torch.device("cpu" if wanted.rehearse else "cuda:0"), TINY if wanted.rehearse else FULL)
    out = wanted.out or (Path(tempfile.mkdtemp(prefix="rehearsed-")) if wanted.rehearse else RESULTS)
    machine = bench.machine()
    run = Run(bench, Results(out, machine), BEGAN, BEGAN + wanted.deadline)
    print(machine.head, flush=True)

    def give_up() -> None:
        print(run.report(), flush=True)
        os._exit(1)  # the part may be inside a call of a library that never returns

    run(parts(bench), give_up)
    print(f"{machine.head}\n\n{run.report()}\n{time.monotonic() - BEGAN:.0f} s in all", flush=True)
    return run.status


def _emulate() -> None:
    """Make ops and the engine use the emulated kernels, and make attention run as on a GPU."""
    from shiftbench import _C
    from shiftbench.engine import core_calls
    from shiftbench.ops import cuda, operators
    from shiftbench.ops.cuda import topk

    if _C.has_cuda:
        raise SystemExit("gpu.py: --rehearse needs a core with emulated kernels, and this one is for a GPU")
    operators.core_of = lambda _: cuda
    topk._tile_bytes = lambda _: 1 << 16
    core_calls._core = lambda _: cuda
    core_calls.supports_attention = lambda _: False


def _own_tests() -> None:
    """Make `tests` this repository's folder, even where another package of that name is installed."""
    tests = ModuleType("tests")
    tests.__path__ = [str(ROOT / "tests")]
    sys.modules["tests"] = tests
    sys.path[0] = str(ROOT)  # replaces this folder, whose files have names that other packages use as well


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures shiftbench on this machine's CUDA GPU.")
    parser.add_argument("--out", type=Path, help="folder of the results (default: tests/perf/results)")
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE, help="in seconds; a part that would end later is skipped"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="run all of it on the CPU at tiny sizes; its numbers mean nothing"
    )
    parser.add_argument("--core", type=Path, help="folder with the package and a core that is built already")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
