"""The settings of malloc: made by the command line, and left alone where the user made some."""

import os
import subprocess
import sys

import pytest

from shiftbench.system.heap import use_one_arena

ARENAS = """
import ctypes, threading
from shiftbench.system import heap
print(heap.use_one_arena())
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
together = threading.Barrier(4)
def take():
    together.wait()
    block = libc.malloc(1 << 20)
    together.wait()
    libc.free(block)
threads = [threading.Thread(target=take) for _ in range(4)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
libc.malloc_stats()
"""


def arenas(**environment):
    """(what use_one_arena printed, number of arenas of a process with four threads that allocate memory)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", ARENAS], env=kept | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip(), done.stderr.count("Arena ")


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_threads_share_a_heap():
    assert arenas() == ("True", 1)
    said, own = arenas(MALLOC_ARENA_MAX="8")
    assert said == "False" and own > 1


def test_elsewhere_nothing_is_set(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not use_one_arena()
