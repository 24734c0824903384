"""Builds the core for one card in a separate folder, with links to the package's files, for gpu.py to import.

Before the core is built, only Python's standard library is imported. shiftbench need not be installed, nor any package
that gpu.py does not use.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def build(folder: Path, cuda: str, architecture: str | None, timeout: float) -> None:
    """Build the package with its core in folder/shiftbench.

    cuda: ON or EMULATED. architecture: as CMake writes it, None for emulated kernels. timeout: seconds for each step.
    """
    package = folder / "shiftbench"
    shutil.rmtree(package, ignore_errors=True)
    unwanted = shutil.ignore_patterns("_C*.so", "__pycache__")
    shutil.copytree(ROOT / "shiftbench", package, copy_function=link, ignore=unwanted)
    _write_metadata(folder)
    options = {
        "CMAKE_LIBRARY_OUTPUT_DIRECTORY": package,
        "SHIFTBENCH_CUDA": cuda,
        "CMAKE_MAKE_PROGRAM": tool("ninja"),
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": _output([sys.executable, "-m", "pybind11", "--cmakedir"]),
    }
    if architecture is not None:
        options |= {"SHIFTBENCH_CUDA_ARCHITECTURES": architecture, "CMAKE_CUDA_COMPILER": tool("nvcc")}
    configure = [tool("cmake"), "-G", "Ninja", "-S", str(ROOT), "-B", str(folder / "core"), "--log-level=WARNING"]
    for name, value in options.items():
        configure += ["-D", f"{name}={value}"]
    subprocess.run(configure, check=True, timeout=timeout)
    subprocess.run([tool("cmake"), "--build", str(folder / "core")], check=True, timeout=timeout)


def link(source: str, to: str) -> str:
    """Link a file instead of copying it, for copytree: what is measured is then always the present source."""
    Path(to).symlink_to(source)
    return to


def architecture_of(major: int, minor: int) -> str:
    """The architecture option for this compute capability alone, as '90a-real'.

    From Hopper on, some instructions need the variant with an 'a'.
    """
    return f"{major}{minor}{'a' if major >= 9 else ''}-real"


def tool(name: str) -> str:
    """The path of a program: from PATH, from Python's own folder, or from the usual folder of CUDA."""
    places = (None, Path(sys.executable).parent, Path("/usr/local/cuda/bin"))
    for place in places:
        if found := shutil.which(name, path=None if place is None else str(place)):
            return found
    raise SystemExit(f"gpu.py: {name} is missing; install it or put it on the path")


def use(folder: Path) -> None:
    """Import shiftbench from this folder. Exits where the folder has no core with GPU kernels."""
    sys.path.insert(0, str(folder))
    import shiftbench
    from shiftbench import _C

    if Path(str(shiftbench.__file__)).parent != folder / "shiftbench" or not hasattr(_C, "cuda"):
        raise SystemExit(f"gpu.py: {folder} holds no core with kernels for GPUs; {shiftbench.__file__} was imported")


def _write_metadata(folder: Path) -> None:
    """Write the metadata from which Python reads the version of a package that is not installed."""
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for old in folder.glob("shiftbench-*.dist-info"):
        shutil.rmtree(old)
    info = folder / f"shiftbench-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shiftbench\nVersion: {version}\n")


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
