"""Fixtures for operator tests: backends, devices and small meshes."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor

from garfast.ops import _native
from tests import cuda_host

Mesh = tuple[Tensor, Tensor]


@pytest.fixture(scope="session")
def cuda_host_module() -> ModuleType:
    """The CUDA kernels compiled for the CPU."""
    if reason := cuda_host.why_not():
        pytest.skip(f"CUDA kernels on the host: {reason}")
    return cuda_host.build()


@pytest.fixture
def cuda_on_host(cuda_host_module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let impl='cuda' run the CUDA kernels on CPU tensors."""
    monkeypatch.setattr(_native, "_CUDA", cuda_host_module)
    monkeypatch.setattr(_native, "_CUDA_MISSING", "")
    monkeypatch.setattr(_native, "CUDA_ON_HOST", True)


@pytest.fixture
def exact_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 convolutions, the library's on a GPU and ours, multiply float32, not tf32 as is PyTorch's default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(params=["reference", "cpu", "cuda-on-host", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> str:
    """Every way to run an operator that has C++ and CUDA kernels; see `impl` and `device`."""
    if request.param == "cuda-on-host":
        request.getfixturevalue("cuda_on_host")
    if request.param.startswith("cuda"):
        request.getfixturevalue("exact_convolutions")
    return request.param


@pytest.fixture
def impl(backend: str) -> str:
    """The `impl` argument for the backend."""
    return "cuda" if backend == "cuda-on-host" else backend


@pytest.fixture
def device(backend: str) -> str:
    """The device that the backend takes tensors on; the reference runs on the CPU."""
    return "cuda" if backend == "cuda" else "cpu"


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine can run, set for the length of a test."""
    if reason := _native.why_not("cpu"):
        pytest.skip(reason)
    if request.param not in _native.cpu().isas():
        pytest.skip(f"{request.param} is not built or not on this machine")
    before = _native.cpu().isa()
    _native.cpu().set_isa(request.param)
    yield request.param
    _native.cpu().set_isa(before)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory that PyTorch hands out unwritten is full of NaN, so that an element that no kernel writes shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def assert_rounding(actual: Tensor, expected: Tensor, length: int = 1, operations: int = 8, size: float = 0.0) -> None:
    """``actual`` is ``expected`` (float64) up to rounding, given what it was computed in and how long its sums were.

    A sum of n terms in any order is off by about sqrt(n) roundings of its size; then come ``operations`` more, and the
    rounding to the format of ``actual``, which is all that a 16-bit format adds to float32. ``size`` is how large the
    sums are at the least while they are made, where their terms may cancel.
    """
    assert actual.shape == expected.shape
    stored = torch.finfo(actual.dtype).eps
    computed = torch.finfo(torch.float64 if actual.dtype == torch.float64 else torch.float32).eps
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    tolerance = 2 * computed * (operations + length**0.5) * max(scale, size)
    torch.testing.assert_close(
        actual.detach().cpu().double(), expected.detach().cpu().double(), rtol=stored, atol=tolerance + 1e-300
    )


def grid_mesh(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Mesh:
    """A bumpy sheet facing +z with ``rows`` x ``columns`` vertices over [-1, 1]^2."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(1, -1, rows), torch.linspace(-1, 1, columns), indexing="ij")
    z = 0.2 * torch.randn(rows, columns, generator=generator)
    vertices = torch.stack([x, y, z], -1).reshape(-1, 3).to(dtype)
    i = torch.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]
    triangles = torch.cat([torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([a, c, d], -1).reshape(-1, 3)])
    return vertices, triangles.to(torch.int32)
