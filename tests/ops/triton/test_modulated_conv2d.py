"""modulated_conv2d in Triton against the reference."""

from __future__ import annotations

import pytest
import torch

from tests.ops.conftest import assert_rounding
from tests.ops.test_modulated_conv2d import ALL, LAYOUTS, arguments, exactly, leaves, run


@pytest.mark.parametrize(
    ("up", "size", "demodulate", "per_element", "shared"),
    [
        (1, 3, True, False, False),
        (1, 1, False, False, True),
        (2, 3, True, False, False),
        (2, 3, True, True, False),
        (2, 1, False, False, True),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matches_the_reference_with_gradients(device, up, size, demodulate, per_element, shared, layout):
    a = arguments(size=size, up=up, device=device, layout=layout, per_element=per_element, shared=shared)
    mine = leaves(a)
    actual = run(mine, up=up, demodulate=demodulate, impl="triton")
    exact, expected = exactly(a, up=up, demodulate=demodulate)
    terms = 4 * size * size * 16
    assert_rounding(actual, expected, terms)
    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(actual, list(mine.values()), weights.to(device))
    wanted = torch.autograd.grad(expected, list(exact.values()), weights.double())
    for name, grad, want in zip(ALL, grads, wanted, strict=True):
        assert grad.shape == want.shape, name
        assert_rounding(grad, want, terms + actual.numel(), operations=32)


@pytest.mark.parametrize("up", [1, 2])
def test_without_terms_and_without_gradients(device, up):
    a = {k: v for k, v in arguments(1, 5, 66, 6, 9, up=up, device=device).items() if k in ALL[:3]}
    actual = run(a, up=up, clamp=1.0, impl="triton")
    assert_rounding(actual, exactly(a, up=up, clamp=1.0)[1], 5 * 9 * 16)


@pytest.mark.parametrize("up", [1, 2])
def test_path_length_penalty(device, up):
    a = arguments(1, 3, 2, 3, 3, up=up, device=device)
    results = []
    for impl in ("reference", "triton"):
        mine = leaves(a)
        inner = torch.autograd.grad(run(mine, up=up, impl=impl).square().sum(), mine["style"], create_graph=True)[0]
        results.append(torch.autograd.grad(inner.square().sum(), [mine["weight"], mine["scale_map"]]))
    for grad, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-4, atol=1e-4)
