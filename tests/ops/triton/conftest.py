"""The Triton kernels: on a GPU, or with TRITON_INTERPRET=1 on the CPU, which tests/ops/test_triton.py arranges."""

from __future__ import annotations

import pytest
import torch

from garfast.ops import _native


@pytest.fixture(autouse=True)
def device() -> str:
    """Where Triton takes its tensors."""
    if reason := _native.why_not("triton"):
        pytest.skip(reason)
    return "cpu" if _native.TRITON_INTERPRETED else "cuda"


@pytest.fixture(autouse=True)
def _poison(poisoned: None, exact_convolutions: None) -> None:
    """Unwritten memory is NaN in all of them."""
    if torch.cuda.is_available():
        torch.use_deterministic_algorithms(True, warn_only=True)
