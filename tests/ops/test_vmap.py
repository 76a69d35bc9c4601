"""torch.vmap over the kernels: the outputs and gradients of a loop, though batched tensors hide that they need any."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from garfast import ops
from tests.tiny_face import make_tiny_model

TAPS = torch.tensor([1.0, 2.0, 1.0])


def _meshes() -> tuple[Tensor, Tensor, Tensor]:
    model = make_tiny_model()
    vertices = model.mean / model.mean.abs().max()
    return torch.stack([vertices, 0.8 * vertices])[:, None], model.triangles, torch.tensor([1.0, 1.0, 0.0, 0.0])


def _convolved(style: Tensor, weight: Tensor) -> Tensor:
    x = torch.linspace(-1, 1, 48).view(1, 3, 4, 4)
    return ops.modulated_conv2d(x, weight, style, impl="cpu").square().sum()


def _rasterised(antialias: bool):
    def function(vertices: Tensor, _: Tensor) -> Tensor:
        _, triangles, camera = _meshes()
        seen = ops.rasterize_normals(vertices, triangles, camera, 8, antialias=antialias, impl="cpu")
        return seen.normals.pow(3).sum() + seen.mask.pow(2).sum()

    return function


CASES = {
    "modulated_conv2d": (_convolved, torch.rand(2, 1, 3)),
    "noise_bias_act": (lambda x, _: ops.noise_bias_act(x, impl="cpu").square().sum(), torch.randn(2, 1, 3, 4, 4)),
    "upfirdn2d": (lambda x, _: ops.upfirdn2d(x, TAPS, up=2, impl="cpu").square().sum(), torch.randn(2, 1, 3, 4, 4)),
    "vertex_normals": (lambda v, _: ops.vertex_normals(v, _meshes()[1], impl="cpu").pow(3).sum(), _meshes()[0]),
    "rasterize_normals": (_rasterised(False), _meshes()[0]),
    "antialiased": (_rasterised(True), _meshes()[0]),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_a_loop(name):
    function, batch = CASES[name]
    weight = torch.linspace(-1, 1, 54).view(2, 3, 3, 3)
    results = []
    for mapped in (False, True):
        leaves = [batch.clone().requires_grad_(), weight.clone().requires_grad_()]
        many = torch.vmap(function, in_dims=(0, None))
        out = many(*leaves) if mapped else torch.stack([function(one, leaves[1]) for one in leaves[0]])
        grads = torch.autograd.grad(out.sum(), leaves, allow_unused=True)
        results.append((out, *grads[: 2 if name == "modulated_conv2d" else 1]))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
