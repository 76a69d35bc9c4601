"""What modulated_conv2d divides by, in Triton against the definition."""

from __future__ import annotations

import pytest
import torch

from garfast.ops import _demodulation
from tests.ops.conftest import assert_rounding
from tests.ops.test_demodulation import arguments, definition


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(3, 5, 6, 3), (19, 3, 150, 1), (1, 1, 1, 3)])
def test_matches_the_definition(device, dtype, layout, size):
    weight, style = arguments(*size, dtype=dtype)
    d = _demodulation.demodulation(weight.to(device).contiguous(memory_format=layout), style.to(device), "triton")
    assert_rounding(d, definition(weight, style), size[2] * size[3] ** 2)


def test_gradients(device):
    results = []
    for impl in ("reference", "triton"):
        leaves = [a.to(device).requires_grad_() for a in arguments(9, 3, 4)]
        results.append(torch.autograd.grad(_demodulation.demodulation(*leaves, impl).square().sum(), leaves))
    for grad, want in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(grad, want)


@pytest.mark.parametrize("size", [(0, 5, 6, 3), (2, 0, 6, 3)])
def test_empty(device, size):
    weight, style = arguments(*size)
    assert _demodulation.demodulation(weight.to(device), style.to(device), "triton").shape == size[:2]
