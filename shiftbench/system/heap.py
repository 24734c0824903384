"""Settings of glibc's malloc that suit the engine. Only the command line uses them, because its process is our own."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt (malloc.h) -> values. One arena for all threads: with an arena for each thread, memory that one
# thread freed after a chunk of derivatives could not be used by another. Blocks below 32 MiB, the highest threshold
# that glibc allows, are not mapped individually, and freed memory returns to the kernel only when there is much of it:
# a layer's arrays are allocated and freed all the time, and the kernel fills every page that it hands out with zeros.
SETTINGS = {-8: 1, -3: 32 << 20, -1: 512 << 20}  # M_ARENA_MAX, M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def use_one_arena() -> bool:
    """Let all threads share one heap that keeps freed memory (SETTINGS). Call it before any thread starts.

    Returns whether all SETTINGS were made. On other systems than Linux, with another C library than glibc, and where
    environment variables (MALLOC_..., GLIBC_TUNABLES) set malloc already, it changes nothing and returns False.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all([library.mallopt(parameter, value) for parameter, value in SETTINGS.items()])
