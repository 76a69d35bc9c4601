"""What a modulated convolution's results are divided by, from its weight and the style.

d_bo = rsqrt(sum_i style_bi^2 n_oi + 1e-8),  n_oi = sum_uv weight_oiuv^2                      METHOD equation (1)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from garfast.ops import _dispatch

EPS = 1e-8


def demodulation(weight: Tensor, style: Tensor, impl: str) -> Tensor:
    """d [B, O] of ``weight`` [O, I, k, k] and ``style`` [B, I], in the dtype of ``style``; differentiable to any order.

    One launch on a GPU; on the CPU the norms and a matrix product.
    """
    fused = impl == "cuda" or (impl == "triton" and style.dtype == torch.float32)  # Triton's sums are float32
    if fused and _dispatch.accumulator(weight.dtype) == style.dtype:
        d: Tensor = _dispatch.operator("demodulation", weight, style)(weight, style, impl)[0]
        return d
    return torch.rsqrt(style.square() @ squared_norms(weight, style.dtype, impl).T + EPS)


def _squared_norms(weight: Tensor) -> Tensor:
    outputs, inputs, height, width = weight.shape
    norms = weight.new_empty(outputs, inputs, dtype=_dispatch.accumulator(weight.dtype))
    function = f"squared_norms_{_dispatch.dtype_suffix(weight.dtype)}"
    _dispatch.call_native("cpu", function, weight, weight.contiguous(), norms, outputs * inputs, height * width)
    return norms


def _fake_squared_norms(weight: Tensor) -> Tensor:
    return weight.new_empty(weight.shape[:2], dtype=_dispatch.accumulator(weight.dtype))


_dispatch.register("squared_norms", "(Tensor weight) -> Tensor norms", _squared_norms, _fake_squared_norms, ("cpu",))


def _squared_norms_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _squared_norms_backward(ctx: Any, grad: Tensor) -> Tensor:
    (weight,) = ctx.saved_tensors
    return _norms_gradient(weight, grad)


def _norms_gradient(weight: Tensor, grad: Tensor) -> Tensor:
    """Gradient of the weight from that of its squared norms [O, I]."""
    return (weight * (2 * grad)[:, :, None, None]).to(weight.dtype)


_dispatch.register_autograd("squared_norms", _squared_norms_backward, _squared_norms_context)


def squared_norms(weight: Tensor, exact: torch.dtype, impl: str) -> Tensor:
    """Sum of the squared taps [O, I] of ``weight``, in ``exact``; on the CPU in one pass without a temporary."""
    if impl == "cpu" and _dispatch.accumulator(weight.dtype) == exact:
        norms: Tensor = _dispatch.operator("squared_norms", weight)(weight)
        return norms
    return weight.to(exact).square().sum((2, 3))


def _demodulation(weight: Tensor, style: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    outputs, inputs, height, width = weight.shape
    weight, style = weight.contiguous(memory_format=_dispatch.memory_format(weight)), style.contiguous()
    d, norms = _fake_demodulation(weight, style, impl)
    if norms.numel() == 0:
        return d, norms
    if impl == "triton":
        from garfast.ops.triton import demodulation as kernel

        kernel.demodulation(weight, style, EPS, d, norms)
        return d, norms
    _dispatch.call_native(
        "cuda",
        f"demodulation_{_dispatch.dtype_suffix(weight.dtype)}",
        weight,
        (style.shape[0], outputs, inputs, height * width, weight.stride(1), weight.stride(3)),
        EPS,
        *(weight, style, d, norms),
    )
    return d, norms


def _fake_demodulation(weight: Tensor, style: Tensor, impl: str) -> tuple[Tensor, Tensor]:
    return style.new_empty(style.shape[0], weight.shape[0]), style.new_empty(weight.shape[:2])


_dispatch.register(
    "demodulation",
    "(Tensor weight, Tensor style, str impl) -> (Tensor d, Tensor norms)",
    _demodulation,
    _fake_demodulation,
)


def _demodulation_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:2], *output)
    ctx.set_materialize_grads(False)


def _demodulation_backward(
    ctx: Any, grad_d: Tensor | None, grad_norms: Tensor | None
) -> tuple[Tensor | None, Tensor | None, None]:
    weight, style, d, norms = ctx.saved_tensors
    needs_weight, needs_style, _ = ctx.needs_input_grad
    grad_weight = grad_style = None
    # d = q^(-1/2) with q = sum style^2 norms + eps: the derivative by q is -d^3 / 2.
    slope = None if grad_d is None else -0.5 * grad_d * d.pow(3)
    if needs_style and slope is not None:
        grad_style = 2 * style * (slope @ norms)
    if needs_weight:
        parts = [] if slope is None else [slope.T @ style.square()]
        parts += [] if grad_norms is None else [grad_norms]
        if parts:
            grad_weight = _norms_gradient(weight, sum(parts[1:], parts[0]))
    return grad_weight, grad_style, None


_dispatch.register_autograd("demodulation", _demodulation_backward, _demodulation_context)
