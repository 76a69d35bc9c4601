"""What modulated_conv2d divides by: every backend against the definition, its derivatives and the operator contract."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from garfast.ops import _demodulation
from tests.ops.conftest import assert_rounding

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def exact_of(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def arguments(batch=3, outputs=5, inputs=6, taps=3, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(batch + inputs)
    weight = torch.randn(outputs, inputs, taps, taps, generator=rng, dtype=torch.float64)
    style = torch.randn(batch, inputs, generator=rng, dtype=torch.float64)
    return weight.to(dtype), style.to(exact_of(dtype))


def definition(weight: Tensor, style: Tensor) -> Tensor:
    kernel = style.double()[:, None, :, None, None] * weight.double()
    return torch.rsqrt(kernel.square().sum((2, 3, 4)) + 1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
# More samples than a block holds at a time, more inputs than it has threads; one of each.
@pytest.mark.parametrize("size", [(3, 5, 6, 3), (19, 3, 150, 1), (1, 1, 1, 3), (8, 2, 129, 3)])
@pytest.mark.usefixtures("poisoned")
def test_matches_the_definition(impl, device, dtype, layout, size):
    weight, style = arguments(*size, dtype=dtype)
    d = _demodulation.demodulation(weight.to(device).contiguous(memory_format=layout), style.to(device), impl)
    assert d.dtype == style.dtype
    assert_rounding(d, definition(weight, style), size[2] * size[3] ** 2)


@pytest.mark.parametrize("size", [(0, 5, 6, 3), (2, 0, 6, 3)])
def test_empty(impl, device, size):
    weight, style = arguments(*size)
    assert _demodulation.demodulation(weight.to(device), style.to(device), impl).shape == size[:2]


def test_first_and_second_derivatives(impl, device):
    weight, style = (a.to(device).requires_grad_() for a in arguments(2, 3, 4, dtype=torch.float64))

    def function(weight: Tensor, style: Tensor) -> Tensor:
        return _demodulation.demodulation(weight, style, impl)

    assert gradcheck(function, (weight, style))
    assert gradgradcheck(function, (weight, style))


@pytest.mark.parametrize("wanted", [0, 1])
def test_one_gradient_alone_is_the_same(impl, device, wanted):
    def gradients(*which: int) -> tuple[Tensor, ...]:
        given = [a.to(device) for a in arguments()]
        leaves = [given[k].requires_grad_() for k in which]
        return torch.autograd.grad(_demodulation.demodulation(*given, impl).sum(), leaves)

    torch.testing.assert_close(gradients(wanted)[0], gradients(0, 1)[wanted], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("taps", [1, 3])
def test_squared_norms(dtype, taps):
    weight = torch.randn(7, 70, taps, taps, dtype=torch.float64).to(dtype).requires_grad_()
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    norms = _demodulation.squared_norms(weight, exact, "cpu")
    assert norms.dtype == exact
    assert_rounding(norms, weight.double().square().sum((2, 3)), taps * taps)
    weights = torch.randn(7, 70, dtype=exact)
    (grad,) = torch.autograd.grad(norms, weight, weights)
    assert grad.dtype == dtype
    assert_rounding(grad, 2 * weight.double() * weights.double()[:, :, None, None])


@pytest.mark.usefixtures("cuda_on_host")
def test_operator_contract():
    weight, style = (a.requires_grad_() for a in arguments())
    torch.library.opcheck(torch.ops.garfast.squared_norms.default, (weight,))
    torch.library.opcheck(torch.ops.garfast.demodulation.default, (weight, style, "cuda"))
