"""A core built for one card, out of the tree, beside links to the package's files: what gpu.py imports.

Imports nothing but Python's own library before the core is there, and asks for no package that shiftbench itself could
do without here: neither it nor a peer is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def build(folder: Path, cuda: str, architecture: str | None, timeout: float) -> None:
    """The package with its core in folder/shiftbench. cuda: ON or EMULATED. architecture: as CMake writes it."""
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
    """copytree's way to a file: a link to it, so that what is measured is what is being edited."""
    Path(to).symlink_to(source)
    return to


def architecture_of(major: int, minor: int) -> str:
    """The card's machine code alone; Hopper and Blackwell have instructions that only the `a` kind offers."""
    return f"{major}{minor}{'a' if major >= 9 else ''}-real"


def tool(name: str) -> str:
    """A program, from the path, from beside Python or from CUDA's usual place."""
    places = (None, Path(sys.executable).parent, Path("/usr/local/cuda/bin"))
    for place in places:
        if found := shutil.which(name, path=None if place is None else str(place)):
            return found
    raise SystemExit(f"gpu.py: {name} is missing; install it or put it on the path")


def use(folder: Path) -> None:
    """shiftbench is the package in this folder, from now on."""
    sys.path.insert(0, str(folder))
    import shiftbench
    from shiftbench import _C

    if Path(str(shiftbench.__file__)).parent != folder / "shiftbench" or not hasattr(_C, "cuda"):
        raise SystemExit(f"gpu.py: {folder} holds no core with kernels for GPUs; {shiftbench.__file__} was imported")


def _write_metadata(folder: Path) -> None:
    """What tells Python the version of a package that nobody has installed."""
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for old in folder.glob("shiftbench-*.dist-info"):
        shutil.rmtree(old)
    info = folder / f"shiftbench-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shiftbench\nVersion: {version}\n")


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
