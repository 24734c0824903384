"""Packages and the compiled core. What the core consists of is CMakeLists.txt's business alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def tool(name: str) -> str:
    """Path of a build tool: beside this Python first (a venv need not be activated), then on PATH."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if not found:
        raise SystemExit(f"shiftbench's core is built with {name}, which is missing: pip install {name}")
    return found


def has_gpu() -> bool:
    """Whether this machine has a GPU and its compiler. SHIFTBENCH_CUDA=ON or OFF in the environment goes first."""
    return bool(shutil.which("nvcc")) and Path("/dev/nvidiactl").exists()


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        import pybind11

        target = Path(self.get_ext_fullpath(ext.name)).parent.resolve()
        build = (Path(self.build_temp) / ext.name).resolve()
        # The cache of an earlier build remembers the tools of a build environment that pip has since removed.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        definitions = {
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_MAKE_PROGRAM": tool("ninja"),
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "SHIFTBENCH_CUDA": os.environ.get("SHIFTBENCH_CUDA") or ("ON" if has_gpu() else "OFF"),
        }
        options = [f"-D{name}={value}" for name, value in definitions.items()]
        subprocess.run([tool("cmake"), "-G", "Ninja", "-S", ROOT, "-B", build, *options], check=True)
        subprocess.run([tool("cmake"), "--build", build], check=True)


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
