"""Headers of the core, where what they do is not reached from Python: compiled in small programs of their own.

The programs are built without OpenMP, which the core itself uses where the compiler has it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "csrc"
COMPILER = shutil.which("c++") or shutil.which("g++") or ""

pytestmark = pytest.mark.skipif(
    not COMPILER or sys.platform != "linux" or not CORE.is_dir(), reason="needs Linux, a C++ compiler and csrc"
)

FEW_THREADS = r"""
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <set>
#include <stdexcept>

#include "shiftbench/parallel.h"

static int left = 2;  // how many more threads the system starts

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* how, void* (*start)(void*), void* with) {
    using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    static const Create real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
    return left-- > 0 ? real(thread, how, start, with) : EAGAIN;
}

int main() {
    std::atomic<int> calls[8] = {};
    std::thread::id ran[8];
    const auto count = [&](std::int64_t begin, std::int64_t end) {
        for (; begin < end; ++begin) ++calls[begin], ran[begin] = std::this_thread::get_id();
    };
    shiftbench::parallel_for(8, 1, count, 8);
    for (const auto& each : calls) std::printf("%d ", each.load());
    std::printf("in %zu threads; ", std::set<std::thread::id>(ran, ran + 8).size());
    left = 2;
    try {
        shiftbench::parallel_for(8, 1, [&](std::int64_t begin, std::int64_t end) {
            count(begin, end);
            if (begin == 2) throw std::runtime_error("range 2");
            if (begin == 6) throw std::runtime_error("range 6");
        }, 8);
    } catch (const std::runtime_error& error) {
        std::printf("%s; ", error.what());
    }
    for (const auto& each : calls) std::printf("%d ", each.load());
}
"""

LARGE_GRIDS = r"""
#include <cstdio>
#include <cstdlib>

#include "cuda/grid.h"

static int calls = 0;
static void kernel() {
    if (++calls > 64) std::exit(1);
}

int main() {
    for (const std::int64_t blocks : {std::int64_t{2}, std::int64_t{0}, std::int64_t{1} << 31,
                                      (std::int64_t{1} << 32) + 1, std::int64_t{-1}}) {
        try {
            shiftbench::cuda::launch(kernel, blocks, 32, nullptr);
            std::printf("%d calls\n", calls);
        } catch (const std::runtime_error& error) {
            std::printf("%s\n", error.what());
        }
    }
}
"""


def output(program: str, folder: Path, *options: str) -> str:
    """What a C++ program prints; it has to end with the exit code 0. options: further ones of the compiler."""
    source, built = folder / "program.cpp", folder / "program"
    source.write_text(program)
    command = [COMPILER, "-std=c++17", "-Wall", "-Wextra", "-pthread", f"-I{CORE}", *options, str(source)]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # of a sanitized core
    subprocess.run([*command, "-o", str(built), "-ldl"], check=True, env=environment)
    return subprocess.run([built], check=True, capture_output=True, text=True, timeout=60, env=environment).stdout


def test_ranges_without_a_thread_of_their_own_run_in_the_calling_thread(tmp_path: Path) -> None:
    once, twice = "1 " * 8, "2 " * 8
    assert output(FEW_THREADS, tmp_path) == f"{once}in 3 threads; range 2; {twice}"


def test_a_grid_with_more_blocks_than_cuda_allows_is_refused(tmp_path: Path) -> None:
    refused = "_C.cuda: kernel launch: {} blocks; a grid has 0 to 2147483647"
    expected = ["64 calls", "64 calls", *(refused.format(blocks) for blocks in (2**31, 2**32 + 1, -1))]
    assert output(LARGE_GRIDS, tmp_path, "-DSHIFTBENCH_EMULATED").splitlines() == expected
