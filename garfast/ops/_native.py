"""The compiled modules ``garfast._cpu`` and ``garfast._cuda`` and Triton: whether they are here, and why not.

All of it is settled when this module is imported, so that ``torch.compile`` sees constants.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType

import torch


def _load(name: str, absent: str) -> tuple[ModuleType | None, str]:
    """The module ``garfast.NAME`` and '', or None and why not."""
    try:
        return importlib.import_module(f"garfast.{name}"), ""
    except ModuleNotFoundError:
        return None, absent
    except ImportError as error:
        return None, f"garfast.{name} does not load ({error}): reinstall garfast on this machine"


def parse_architectures(text: str) -> tuple[tuple[int, str, bool], ...]:
    """Of each GPU architecture in CMake's list its number, 'a' or 'f' if it is specific, and whether it has no PTX.

    '80' is machine code and PTX, '80-real' and '80-virtual' are one of these; of 'native' and 'all' nothing is known.
    """
    found = re.findall(r"(\d+)([af]?)(-real)?", text)
    return tuple((int(number), specific, bool(machine_code)) for number, specific, machine_code in found)


_CPU, _CPU_MISSING = _load("_cpu", "the native CPU module is missing: install garfast with `pip install .`")
_CUDA, _CUDA_MISSING = _load(
    "_cuda",
    "garfast's CUDA kernels failed to compile: reinstall it with GARFAST_CUDA=1 to see why"
    if Path(__file__).parents[1].joinpath("_cuda_failure.txt").exists()
    else "garfast was built without CUDA kernels: install the CUDA toolkit (nvcc) and reinstall garfast",
)
_BUILT = parse_architectures(getattr(_CUDA, "architectures", ""))
_TRITON_MISSING = "" if importlib.util.find_spec("triton") else "Triton is not installed: `pip install triton`"

# Set by tests that put a build of the CUDA kernels for the host in place of the module: 'cuda' then takes CPU tensors.
CUDA_ON_HOST = False

# Whether Triton kernels run in its interpreter, on CPU tensors. Triton too reads this once, when it is imported.
TRITON_INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"


def cpu() -> ModuleType:
    """``garfast._cpu``; call only where ``why_not('cpu')`` is empty."""
    if _CPU is None:
        raise ImportError(_CPU_MISSING)
    return _CPU


def _driver_version() -> int:
    """The newest CUDA that the GPU's driver knows, as 12040; 0 where there is none, or PyTorch cannot tell."""
    ask = getattr(torch._C, "_cuda_getDriverVersion", None)
    try:
        return 0 if ask is None else int(ask())
    except RuntimeError:
        return 0


def too_old(driver: int, runtime: int) -> str:
    """Why a driver, of a version such as 12040, cannot run kernels with a CUDA runtime; '' if it can. A PyTorch for an
    older CUDA runs with drivers that are too old for our kernels' runtime."""
    if not driver or driver // 1000 >= runtime // 1000:
        return ""
    return (
        f"garfast's CUDA kernels are built with CUDA {runtime // 1000}, the driver is for CUDA {driver // 1000}: "
        f"install a newer driver, or garfast with CUDA {driver // 1000}"
    )


# Found out here and not when an operator is called: torch.compile traces that, and cannot ask a driver.
_DRIVER_TOO_OLD = "" if _CUDA is None else too_old(_driver_version(), _CUDA.cuda_version)


def cuda() -> ModuleType:
    """``garfast._cuda``; call only where ``why_not('cuda')`` is empty."""
    if _CUDA is None:
        raise ImportError(_CUDA_MISSING)
    return _CUDA


def cuda_missing() -> str:
    """Why the CUDA kernels are not built or do not load; '' if they do, GPU or not."""
    return _CUDA_MISSING


def built_for(device: torch.device | None, oldest: int = 0) -> bool:
    """Whether a GPU (None: the current one) can run the CUDA kernels as compiled for ``oldest`` (80: 8.0) or newer."""
    properties = torch.cuda.get_device_properties(device)
    gpu = 10 * properties.major + properties.minor
    for number, specific, machine_code in _BUILT:
        same_major = number // 10 == properties.major
        fits = number == gpu if specific == "a" else same_major or not (specific or machine_code)
        if fits and oldest <= number <= gpu:
            return True
    return not _BUILT and oldest <= gpu


def why_not(backend: str, device: torch.device | None = None) -> str:
    """Why ``backend`` ('cpu', 'cuda' or 'triton') cannot run on this machine, or on this GPU of it; '' if it can."""
    if backend == "cpu":
        return _CPU_MISSING
    if backend == "cuda":
        if _CUDA_MISSING or CUDA_ON_HOST:
            return _CUDA_MISSING
        if not torch.cuda.is_available():
            return "PyTorch sees no CUDA device"
        if _DRIVER_TOO_OLD:
            return _DRIVER_TOO_OLD
        if built_for(device):
            return ""
        built = cuda().architectures
        return f"garfast's CUDA kernels are built for {built}, not for this GPU: reinstall garfast on this machine"
    if not _TRITON_MISSING and not TRITON_INTERPRETED and not torch.cuda.is_available():
        return "PyTorch sees no CUDA device (TRITON_INTERPRET=1 runs Triton kernels slowly on the CPU)"
    return _TRITON_MISSING
