"""vertex_normals of the built-in face beside the reference (cross products, then a sum over each vertex's corners)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks import layers
from garfast.morphable import load_model
from garfast.ops import vertex_normals


@pytest.mark.parametrize("batch", layers.BATCHES)
@pytest.mark.parametrize("mode", ["forward", "forward+backward"])
@pytest.mark.parametrize("way", layers.WAYS)
def test_vertex_normals(benchmark: Any, batch: int, mode: str, way: str) -> None:
    gradients = mode != "forward"
    model = load_model("builtin").to(layers.DEVICE)
    triangles, adjacency = model.triangles, model.adjacency
    vertices = (model.mean + torch.randn(batch, *model.mean.shape).to(model.mean)).requires_grad_(gradients)
    weights = torch.randn_like(vertices)

    def step(impl: str, way: str = "eager") -> Callable[[], Any]:
        run = layers.in_way(lambda: vertex_normals(vertices, triangles, adjacency=adjacency, impl=impl), way)
        return (lambda: torch.autograd.grad(run(), vertices, weights)) if gradients else run

    layers.side_by_side(benchmark, step("auto"), step("reference", way), rounds=30)
