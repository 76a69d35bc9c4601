"""The CPU's convolutions as matrix products: shapes that reach every path, chunks, threads, instruction sets."""

from __future__ import annotations

import pytest
import torch

from garfast.ops import _conv_planes
from tests.ops.conftest import assert_rounding
from tests.ops.test_modulated_conv2d import ALL, arguments, exactly, leaves, run

# batch, inputs, outputs, height, width: few pixels; odd sizes; several samples; more than one row of tiles
SHAPES = [(1, 5, 7, 4, 4), (3, 4, 6, 3, 5), (1, 6, 5, 13, 9), (2, 3, 4, 12, 17), (5, 3, 2, 1, 14), (2, 2, 3, 31, 1)]


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk_columns", [1, 24, 10**6])
@pytest.mark.usefixtures("poisoned")
def test_matches_the_reference_with_gradients(up, shape, chunk_columns, monkeypatch):
    monkeypatch.setattr(_conv_planes, "_CHUNK_BYTES", 0)
    monkeypatch.setattr(_conv_planes, "_CHUNK_COLUMNS", chunk_columns)
    a = arguments(*shape, up=up)
    mine = leaves(a)
    actual = run(mine, up=up, impl="cpu")
    exact, expected = exactly(a, up=up)
    terms = 9 * 16 * shape[1]
    assert_rounding(actual, expected, terms)
    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(actual, list(mine.values()), weights)
    wanted = torch.autograd.grad(expected, list(exact.values()), weights.double())
    for name, grad, want in zip(ALL, grads, wanted, strict=True):
        assert grad.shape == want.shape, name
        assert_rounding(grad, want, terms + actual.numel(), operations=32)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.usefixtures("isa")
def test_every_instruction_set(up):
    a = arguments(2, 5, 4, 11, 35, up=up)
    assert_rounding(run(a, up=up, impl="cpu"), exactly(a, up=up)[1], 9 * 16 * 5)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("wanted", ["x", "weight", "style", "bias"])
def test_one_gradient_alone_is_the_same(up, wanted):
    a = arguments(2, 5, 4, 9, 9, up=up)
    every = leaves(a)
    want = torch.autograd.grad(run(every, up=up, impl="cpu").sum(), list(every.values()))[ALL.index(wanted)]
    a[wanted].requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(run(a, up=up, impl="cpu").sum(), a[wanted])[0], want)


@pytest.mark.parametrize("up", [False, True])
def test_operator_contract(up):
    a = arguments(2, 3, 4, 9, 8)
    size = (2, 4, 19, 17) if up else (2, 4, 9, 8)
    torch.library.opcheck(
        torch.ops.garfast.conv_planes_gradients.default,
        (torch.randn(size), a["x"], a["weight"], a["style"], up, True, True),
        test_utils=("test_schema", "test_faketensor"),
    )
