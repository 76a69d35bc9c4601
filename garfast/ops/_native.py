"""The compiled modules ``garfast._cpu`` and ``garfast._cuda`` and Triton: whether they are here, and why not."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from types import ModuleType

import torch


@functools.cache
def _load(name: str) -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module(f"garfast.{name}"), ""
    except ModuleNotFoundError:
        if name == "_cuda":
            return (
                None,
                "garfast was installed without CUDA kernels: install the CUDA toolkit (nvcc) and reinstall garfast",
            )
        return None, "the native CPU module is missing: install garfast with `pip install .`"
    except ImportError as error:
        return None, f"garfast.{name} does not load ({error}): reinstall garfast on this machine"


def cpu() -> ModuleType:
    """``garfast._cpu``; call only where ``why_not('cpu')`` is empty."""
    module, reason = _load("_cpu")
    if module is None:
        raise ImportError(reason)
    return module


def cuda() -> ModuleType:
    """``garfast._cuda``; call only where ``why_not('cuda')`` is empty."""
    module, reason = _load("_cuda")
    if module is None:
        raise ImportError(reason)
    return module


def triton_interpreted() -> bool:
    """Whether Triton kernels run in its interpreter, on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@functools.cache
def why_not(backend: str) -> str:
    """Why ``backend`` ('cpu', 'cuda' or 'triton') cannot run on this machine; '' if it can."""
    if backend == "cpu":
        return _load("_cpu")[1]
    if backend == "cuda":
        return _load("_cuda")[1] or ("" if torch.cuda.is_available() else "PyTorch sees no CUDA device")
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: `pip install triton`"
    if not torch.cuda.is_available() and not triton_interpreted():
        return "PyTorch sees no CUDA device (TRITON_INTERPRET=1 runs Triton kernels slowly on the CPU)"
    return ""
