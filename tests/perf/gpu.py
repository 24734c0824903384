"""One command that measures shiftbench's core and engine on this machine's CUDA GPU: python tests/perf/gpu.py

Under 9 minutes on an H200. Builds the core for the card beside the tree, checks every op against its formula in
float64, times the hot spots against their peers on the same card, writes tests/perf/results/<card>.json and .md as each
part ends. Nothing is downloaded; of packages it needs torch, transformers, numpy and pybind11, and CMake, Ninja, nvcc.
Exits with 1 where a result is wrong. --rehearse runs the same code on a CPU, tiny, on emulated kernels.
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
DEADLINE = 510


def main() -> int:
    wanted = _arguments()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    _own_tests()
    import torch

    from tests.perf.gpu_bench import build

    if not wanted.rehearse and not torch.cuda.is_available():
        print(f"gpu.py: no CUDA device here (torch {torch.__version__}); --rehearse runs all of it on the CPU, tiny")
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
        os._exit(1)  # the part may be inside a library's call that never returns

    run(parts(bench), give_up)
    print(f"{machine.head}\n\n{run.report()}\n{time.monotonic() - BEGAN:.0f} s in all", flush=True)
    return run.status


def _emulate() -> None:
    """Leads ops and the engine to the emulated kernels, and attention to what it does on a GPU."""
    from shiftbench import _C
    from shiftbench.engine import core
    from shiftbench.ops import cuda, operators
    from shiftbench.ops.cuda import topk

    if _C.has_cuda:
        raise SystemExit("gpu.py: --rehearse needs a core with emulated kernels, and this one is for a GPU")
    operators.core_of = lambda _: cuda
    topk._tile_bytes = lambda _: 1 << 16
    core._core = lambda _: cuda
    core.attends = lambda _: False


def _own_tests() -> None:
    """`tests` is this repository's folder, whatever else is installed under that name."""
    tests = ModuleType("tests")
    tests.__path__ = [str(ROOT / "tests")]
    sys.modules["tests"] = tests
    sys.path[0] = str(ROOT)  # not this folder, whose files have common names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures shiftbench on this machine's CUDA GPU.")
    parser.add_argument("--out", type=Path, help="folder of the results (default: tests/perf/results)")
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE, help="seconds; parts that no longer fit are skipped"
    )
    parser.add_argument("--rehearse", action="store_true", help="all of it on the CPU, tiny: its numbers mean nothing")
    parser.add_argument("--core", type=Path, help="folder with the package and its core, already built")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
