"""noise_bias_act in Triton against the equation."""

from __future__ import annotations

import pytest
import torch

from tests.ops.conftest import assert_rounding
from tests.ops.test_noise_bias_act import HALF, LAYOUTS, arguments, equation, leaves, run


@pytest.mark.parametrize(
    ("shape", "per_element", "shared", "clamp", "dtype"),
    [
        ((2, 5, 7, 9), False, False, None, torch.float32),
        ((2, 5, 7, 9), True, False, None, torch.float32),
        ((2, 17, 3, 5), False, True, 1.0, torch.float32),
        ((1, 300, 20, 15), False, False, None, torch.float32),
        ((1, 3, 4, 5), False, False, None, HALF[0]),
        ((1, 3, 4, 5), True, False, 1.0, HALF[1]),
    ],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_matches_the_equation_with_gradients(device, shape, per_element, shared, clamp, dtype, layout):
    a = arguments(shape, dtype, device, layout, per_element, shared)
    if clamp is not None and dtype in HALF:
        a["x"] = a["x"] * 4
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    exact, mine = leaves({k: v.double() for k, v in a.items()}), leaves(a)
    expected, actual = equation(exact, clamp), run(mine, clamp=clamp, impl="triton")
    assert_rounding(actual, expected)
    expected_grads = torch.autograd.grad((expected * weights.double()).sum(), list(exact.values()))
    for grad, want in zip(torch.autograd.grad(actual, list(mine.values()), weights), expected_grads, strict=True):
        assert_rounding(grad, want, actual.numel())


@pytest.mark.parametrize("missing", ["scale_map", "shift_map", "noise", "noise_strength", "bias"])
def test_every_term_is_optional(device, missing):
    a = arguments((2, 3, 4, 5), device=device)
    a.pop(missing)
    if missing == "noise":
        a.pop("noise_strength")
    mine, exact = leaves(a), leaves({k: v.double() for k, v in a.items()})
    actual = run(mine, impl="triton")
    assert_rounding(actual, equation(a))
    grads = torch.autograd.grad(actual.sum(), list(mine.values()))
    for grad, want in zip(grads, torch.autograd.grad(equation(exact).sum(), list(exact.values())), strict=True):
        assert_rounding(grad, want, actual.numel())
