"""Build of the native extensions: CMake + ninja drive the compilers, setuptools does the rest (see pyproject.toml).

Needs no torch: the kernels take raw pointers. ``garfast._cpu`` is always built; ``garfast._cuda`` whenever nvcc is
found and can. Environment:

    GARFAST_CUDA=0|1       0: skip CUDA; 1: insist on it; unset: build it when nvcc is found, do without if that fails
    TORCH_CUDA_ARCH_LIST   GPU architectures as for PyTorch, e.g. "8.0;9.0+PTX"
    CUDAARCHS              the same as for CMake, e.g. "80;90"
    CUDACXX, CUDA_HOME     which nvcc
    MAX_JOBS               compile jobs at once
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def find_nvcc() -> str | None:
    """Path of nvcc, or None."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    candidates = [os.environ.get("CUDACXX"), *(f"{home}/bin/nvcc" for home in homes if home), shutil.which("nvcc")]
    return next((path for path in candidates if path and shutil.which(path)), None)


def want_cuda(nvcc: str | None) -> bool:
    """Whether to build ``garfast._cuda``, from GARFAST_CUDA and whether nvcc was found."""
    choice = os.environ.get("GARFAST_CUDA", "auto")
    if choice not in ("0", "1", "auto"):
        sys.exit(f"GARFAST_CUDA must be 0 or 1, not {choice!r}")
    if choice == "1" and nvcc is None:
        sys.exit("GARFAST_CUDA=1 but nvcc was not found: install the CUDA toolkit, or set CUDACXX to nvcc's path")
    return choice != "0" and nvcc is not None


def cuda_architectures() -> str:
    """CMAKE_CUDA_ARCHITECTURES: what the environment asks for, else the visible GPU's, else 8.0 and 9.0 with PTX."""
    if torch_list := os.environ.get("TORCH_CUDA_ARCH_LIST"):
        found = re.findall(r"(\d+)\.(\d+[af]?)(\+PTX)?", torch_list)
        if not found:
            sys.exit(f"TORCH_CUDA_ARCH_LIST must look like '8.0;9.0+PTX', not {torch_list!r}")
        return ";".join(f"{major}{minor}" + ("" if ptx else "-real") for major, minor, ptx in found)
    if cmake_list := os.environ.get("CUDAARCHS"):
        return cmake_list
    if smi := shutil.which("nvidia-smi"):
        query = [smi, "--query-gpu=compute_cap", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
        if found := sorted(set(re.findall(r"^(\d+)\.(\d+)\s*$", answer, re.MULTILINE))):
            return ";".join(major + minor for major, minor in found)
    # sm_80 machine code also runs on 8.6 and 8.9; the PTX of 9.0 covers what comes after.
    return "80-real;90"


class CMakeBuild(build_ext):
    """Build each wanted module in a folder of its own, and leave it where setuptools looks for it."""

    def run(self) -> None:
        nvcc = find_nvcc()
        cuda = want_cuda(nvcc)
        options = ["-DGARFAST_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
        if cuda:
            options.append(f"-DCMAKE_CUDA_ARCHITECTURES={cuda_architectures()}")
        output = Path(self.get_ext_fullpath("garfast._cpu")).resolve().parent
        try:
            self._build("_cpu", output)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"the native build failed: {error}")
        failure = output / "_cuda_failure.txt"  # which garfast.ops reports
        failure.unlink(missing_ok=True)
        if cuda:
            try:
                self._build("_cuda", output, *options)
            except (OSError, subprocess.CalledProcessError) as error:
                if os.environ.get("GARFAST_CUDA") == "1":
                    sys.exit(f"the native build failed: {error} (GARFAST_CUDA=0 builds without CUDA)")
                cuda = False
                Path(self.get_ext_fullpath("garfast._cuda")).unlink(missing_ok=True)  # of an earlier build
                failure.write_text(f"{error}\n")
                print(f"warning: garfast is built without CUDA kernels, which failed: {error}", file=sys.stderr)
        if not cuda:
            self.extensions = [e for e in self.extensions if e.name != "garfast._cuda"]

    def _pybind11(self) -> Path:
        """CMake's folder of a copy of pybind11 that stays: an isolated build environment has another path each time,
        and with that every binding would be compiled anew."""
        import pybind11

        package, config = Path(pybind11.__file__).parent, Path(pybind11.get_cmake_dir())
        if not config.is_relative_to(package):  # a Linux distribution's, which stays
            return config
        copy = Path(self.build_temp).resolve() / f"pybind11-{pybind11.__version__}"
        if not copy.is_dir():
            unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
            shutil.copytree(package, unfinished)
            unfinished.rename(copy)
        return copy / config.relative_to(package)

    def _build(self, target: str, output: Path, *options: str) -> None:
        build = Path(self.build_temp).resolve() / target
        build.mkdir(parents=True, exist_ok=True)
        # A cached absolute path of a deleted isolated build environment (cmake, ninja, pybind11) must not be reused.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        configure = [
            "cmake",
            f"-S{ROOT}",
            f"-B{build}",
            "-GNinja",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={self._pybind11()}",
            f"-DGARFAST_OUTPUT_DIR={output}",
            *options,
        ]
        subprocess.run(configure, check=True)
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
        subprocess.run(["cmake", "--build", str(build), "--target", target, "--parallel", jobs], check=True)


setup(
    ext_modules=[Extension("garfast._cpu", []), Extension("garfast._cuda", [], optional=True)],
    cmdclass={"build_ext": CMakeBuild},
)
