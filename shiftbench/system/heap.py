"""The C library's heap, set for how the engine uses it. For a process that is shiftbench's own: the command line's."""

from __future__ import annotations

import ctypes
import os
import sys

# mallopt's parameters (malloc.h) and what they become. One arena: a thread's own keeps what a chunk of derivatives gave
# back, where no other thread can take it. No block below 32 MiB, the most that glibc allows, is mapped for itself, and
# freed memory is returned to the kernel when there is much of it only: a layer's arrays come and go all the time, and
# the kernel fills every page with zeros first.
SETTINGS = {-8: 1, -3: 32 << 20, -1: 512 << 20}  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def use_one_arena() -> bool:
    """All threads take memory from one heap, which keeps it. To be called before any thread starts.

    Does nothing, and says so by False, where the C library is not glibc, or the environment already sets its malloc.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all([library.mallopt(parameter, value) for parameter, value in SETTINGS.items()])
