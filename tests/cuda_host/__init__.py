"""Builds ``csrc/cuda`` for the CPU: the same functions as ``garfast._cuda``, on CPU addresses, threads as fibers."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CSRC = ROOT / "csrc"


def why_not() -> str:
    """Why it cannot be built here; '' if it can."""
    if shutil.which("g++") is None:
        return "needs g++"
    if importlib.util.find_spec("pybind11") is None:
        return "needs pybind11 (pip install 'garfast[test]')"
    return "" if CSRC.is_dir() else "needs the source tree"


def build() -> ModuleType:
    """Compile what has changed since the last time into ``build/cuda_host`` and import the module.

    Raises:
        RuntimeError: a source does not compile; the message is the compiler's.
    """
    import pybind11

    sources = [*sorted(CSRC.glob("cuda/*.cu")), *sorted(CSRC.glob("bindings/cuda*.cpp")), HERE / "fibers.cpp"]
    headers = sorted([*CSRC.rglob("*.h"), *HERE.rglob("*.h")])
    includes = [
        HERE / "include",
        CSRC / "include",
        CSRC / "bindings",
        pybind11.get_include(),
        sysconfig.get_path("include"),
    ]
    flags = ["-std=c++17", "-O1", "-fPIC", "-w", "-ffp-contract=off", "-fvisibility=hidden"]
    flags += ['-DGARFAST_CUDA_ARCHITECTURES="host"', *(f"-I{path}" for path in includes)]
    common = "\0".join([*flags, *(path.read_text() for path in headers)])
    folder = ROOT / "build" / "cuda_host"
    folder.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> Path:
        digest = hashlib.sha256((common + source.read_text()).encode()).hexdigest()[:16]
        target = folder / f"{source.name}-{digest}.o"
        if not target.exists():
            temporary = target.with_suffix(".tmp")
            _call(["g++", *flags, "-x", "c++", "-c", str(source), "-o", str(temporary)])
            temporary.rename(target)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, sources))
    digest = hashlib.sha256("".join(path.name for path in objects).encode()).hexdigest()[:16]
    module = folder / digest / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not module.exists():
        module.parent.mkdir(exist_ok=True)
        temporary = module.with_suffix(".tmp")
        _call(["g++", "-shared", *map(str, objects), "-o", str(temporary)])
        temporary.rename(module)
    spec = importlib.util.spec_from_file_location("_cuda", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _call(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{result.stderr[-4000:]}")
