"""What a ratio of times depends on besides the code: the class of CPU, and the number of threads."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from shiftbench import _C

VENDORS = {"AuthenticAMD": "amd", "GenuineIntel": "intel", "HygonGenuine": "hygon"}


def machine_class(threads: int) -> str:
    """Maker and model of the CPU, instructions that the core runs, threads: 'amd 25-17 avx512 1 thread'.

    Makers have classes of their own because torch's product is MKL's, which leaves AVX-512 unused on a CPU that is not
    Intel's, and models because some make one multiplication of AVX-512 in the time in which others make two: ratios
    to it differ twofold.
    """
    return f"{vendor()}{model()} {_C.get_instructions()} {threads} thread{'s' * (threads > 1)}"


def vendor() -> str:
    """The CPU's maker as Linux names it, shortened; else the architecture."""
    found = _cpuinfo("vendor_id")
    return VENDORS.get(found, found.lower()) or platform.machine().lower() or "unknown"


def model() -> str:
    """' FAMILY-MODEL' of the CPU as Linux numbers them; empty where it does not."""
    numbers = _cpuinfo("cpu family"), _cpuinfo("model")
    return f" {numbers[0]}-{numbers[1]}" if all(numbers) else ""


def cpu_model() -> str:
    """The CPU as Linux names it, for people."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    try:
        found = re.search(rf"^{field}\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else ""
