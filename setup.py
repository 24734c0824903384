"""Lists the packages, and runs CMake to build the compiled core. Only CMakeLists.txt says how the core is built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def find_tool(name: str) -> str:
    """The path of a build tool, looked for beside this Python first (so that no venv need be active), then on PATH.

    Ends the program with a message where the tool is in neither place.
    """
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if not found:
        raise SystemExit(f"shiftbench's compiled core is built with {name}, which was not found; pip install {name}")
    return found


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU and the CUDA compiler nvcc."""
    return bool(shutil.which("nvcc")) and Path("/dev/nvidiactl").exists()


class CMakeBuild(build_ext):
    """Builds shiftbench/_C by CMake and Ninja.

    The environment variable SHIFTBENCH_CUDA (ON, OFF or EMULATED; see CMakeLists.txt) says whether the kernels for GPUs
    are built. Where it is empty or not set, they are built if `has_gpu`.
    """

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).parent.resolve()
        build = (Path(self.build_temp) / ext.name).resolve()
        # CMake's cache of an earlier build names tools of pip's build environment, which pip has since removed.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        definitions = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": find_tool("ninja"),
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "SHIFTBENCH_CUDA": os.environ.get("SHIFTBENCH_CUDA") or ("ON" if has_gpu() else "OFF"),
        }
        options = [f"-D{name}={value}" for name, value in definitions.items()]
        subprocess.run([find_tool("cmake"), "-G", "Ninja", "-S", ROOT, "-B", build, *options], check=True)
        subprocess.run([find_tool("cmake"), "--build", build], check=True)


configs = ["shiftbench.conf", *(f"shiftbench.conf.{name}" for name in find_packages("conf"))]

setup(
    packages=[*find_packages(include=["shiftbench", "shiftbench.*"]), *configs],
    package_dir={"shiftbench.conf": "conf"},
    package_data={
        "shiftbench": ["_C.pyi", "data/**", "demo/models/**", "schema/*.json", "report/*.css", "report/*.jinja"],
        "shiftbench.leaderboard": ["*.css", "*.js", "*.jinja"],
        "shiftbench.perf": ["*.json"],
        **{name: ["*.yaml"] for name in configs},
    },
    exclude_package_data={"": ["*.pyc", "__pycache__/*"]},
    ext_modules=[Extension("shiftbench._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
    zip_safe=False,
)
