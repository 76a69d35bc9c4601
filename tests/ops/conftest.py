"""Fixtures for operator tests: backends, devices and small meshes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from garfast.ops import _native

Mesh = tuple[Tensor, Tensor]


@pytest.fixture(
    params=["reference", "cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def impl(request: pytest.FixtureRequest) -> str:
    """Every backend of the mesh operators."""
    return request.param


@pytest.fixture
def device(impl: str) -> str:
    """The device that ``impl`` runs on; the reference runs on the CPU."""
    return "cuda" if impl == "cuda" else "cpu"


@pytest.fixture(params=_native.cpu().isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine can run, set for the length of a test."""
    before = _native.cpu().isa()
    _native.cpu().set_isa(request.param)
    yield request.param
    _native.cpu().set_isa(before)


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
