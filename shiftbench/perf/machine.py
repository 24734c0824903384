"""The class of a machine: its CPU and the number of threads in use, on which a ratio of times depends."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from shiftbench import _C

VENDORS = {"AuthenticAMD": "amd", "GenuineIntel": "intel", "HygonGenuine": "hygon"}


def machine_class(threads: int) -> str:
    """The class of a machine, as 'amd 25-17 avx512 1 thread'.

    It has the CPU's maker and model, the instructions that the core uses, and the number of threads. The maker matters
    because torch.mm calls MKL, which uses AVX-512 on Intel's CPUs only. The model matters because some CPUs do one
    AVX-512 multiplication in the time in which others do two, so ratios to such a product differ by a factor of two.
    """
    return f"{vendor()}{model()} {_C.get_instructions()} {threads} thread{'s' * (threads > 1)}"


def vendor() -> str:
    """A short name of the CPU's maker, as 'amd', where Linux reports it; else the architecture, as 'aarch64'."""
    found = _cpuinfo("vendor_id")
    return VENDORS.get(found, found.lower()) or platform.machine().lower() or "unknown"


def model() -> str:
    """' FAMILY-MODEL' of the CPU, the numbers that Linux reports; '' where it reports none."""
    numbers = _cpuinfo("cpu family"), _cpuinfo("model")
    return f" {numbers[0]}-{numbers[1]}" if all(numbers) else ""


def cpu_model() -> str:
    """The name of the CPU's model as its maker writes it; where Linux reports none, what `platform` knows of it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    try:
        found = re.search(rf"^{field}\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else ""
