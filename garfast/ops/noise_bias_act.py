"""The element-wise end of a styled convolution in one pass: maps, noise, bias, activation, gain, clamp.

y = clamp(act(x * scale_map + shift_map + noise_strength * noise + bias) * gain)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from garfast.ops import _dispatch, _epilogue

_OP = "noise_bias_act"


def noise_bias_act(
    x: Tensor,
    *,
    scale_map: Tensor | None = None,
    shift_map: Tensor | None = None,
    noise: Tensor | None = None,
    noise_strength: Tensor | float | None = None,
    bias: Tensor | None = None,
    activation: str = "lrelu",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """clamp(act(x * scale_map + shift_map + noise_strength * noise + bias) * gain); a term that is None is left out.

    Args:
        x: [B, C, H, W], float32, float16, bfloat16 or float64, any layout. 16-bit formats are computed in float32 and
            rounded once; float64 runs on 'reference' and 'cpu' and in CUDA.
        scale_map, shift_map: [B, 1, H, W] or [B, C, H, W], or either with 1 for B: the maps m and t of the normal
            injection (METHOD equation 4).
        noise: [B, 1, H, W], or [1, 1, H, W] or [H, W] shared by the batch.
        noise_strength: a number or a tensor of one element; 1 when None; ignored without noise.
        bias: [C].
        activation: 'lrelu' (slope ``alpha`` below 0), 'relu' or 'linear'.
        alpha: slope of 'lrelu' below 0, not negative.
        gain: positive factor after the activation; None: sqrt(2), 1 for 'linear'.
        clamp: positive bound on the absolute value of the result, or None.
        impl: 'auto', 'reference', 'cpu', 'cuda' or 'triton'.

    Returns:
        [B, C, H, W] in the dtype and layout of ``x`` (the other terms follow it, under autocast too).

    Differentiable to any order with respect to every tensor; a clamped element has gradient 0. The kernels keep the
    result for the backward, and x only where scale_map needs a gradient; the first derivative is one pass over the data
    that also makes all the sums, in an order that does not depend on the number of threads.

    Raises:
        ArgumentError: an argument has the wrong type, shape, device or range.
        BackendUnavailableError: ``impl`` cannot run here.
    """
    _dispatch.check_tensor(_OP, "x", x, ["B", "C", "H", "W"])
    act = _epilogue.check_activation(_OP, activation, alpha, gain, clamp)
    batch, channels, height, width = x.shape
    terms = _epilogue.check_terms(
        _OP, x, (batch, channels, height, width), scale_map, shift_map, noise, noise_strength, bias
    )
    backend = _dispatch.resolve(_OP, impl, x.device, has_triton=True)
    if backend == "reference":
        return _epilogue.reference(x, None, terms, act)
    y: Tensor = _dispatch.operator(_OP, x, *terms)(x, None, *terms, *act, backend)
    return y


def _forward(
    x: Tensor,
    scale_channel: Tensor | None,
    scale_map: Tensor | None,
    shift_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    bias: Tensor | None,
    alpha: float,
    gain: float,
    clamp: float,
    impl: str,
) -> Tensor:
    layout = _dispatch.memory_format(x)
    x = x.contiguous(memory_format=layout)
    y = torch.empty_like(x, memory_format=layout)
    if x.numel() == 0:
        return y
    run_forward(
        x,
        (scale_channel, scale_map, shift_map, noise, noise_strength, bias),
        _epilogue.Activation(alpha, gain, clamp),
        y,
        impl,
    )
    return y


def run_forward(
    x: Tensor, terms: _epilogue.KernelTerms, activation: _epilogue.Activation, y: Tensor, impl: str
) -> None:
    """Write ``y``, which has the dense layout of ``x`` and may be ``x``."""
    if impl == "triton":
        from garfast.ops.triton import noise_bias_act as kernels

        kernels.forward(x, *terms, activation, y)
        return
    _dispatch.call_native(
        impl,
        f"noise_bias_act_forward_{_dispatch.dtype_suffix(x.dtype)}",
        x,
        _epilogue.native_shape(x, impl),
        _epilogue.native_terms(x, *terms, activation),
        x,
        y,
    )


def _empty_results(
    grad_y: Tensor,
    y: Tensor,
    scale_channel: Tensor | None,
    scale_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    shift_per_element: bool,
    needs: list[bool],
) -> list[Tensor]:
    """The results of the backward, unwritten."""
    batch, channels, height, width = y.shape
    layout, exact = _dispatch.memory_format(y), _dispatch.accumulator(y.dtype)

    def map_like(per_element: bool) -> Tensor:
        if per_element:
            return torch.empty_like(y, memory_format=layout)
        return y.new_empty(batch, 1, height, width)

    return [
        torch.empty_like(y, memory_format=layout) if needs[0] else y.new_empty(0),
        y.new_empty((batch, channels) if needs[1] else 0, dtype=exact),
        map_like(_epilogue.is_per_element(scale_map)) if needs[2] else y.new_empty(0),
        map_like(shift_per_element) if needs[3] else y.new_empty(0),
        y.new_empty((batch, 1, height, width) if needs[4] else 0),
        y.new_empty(() if needs[5] else 0, dtype=exact),
        y.new_empty(channels if needs[6] else 0, dtype=exact),
    ]


def _backward(
    grad_y: Tensor,
    y: Tensor,
    x: Tensor | None,
    scale_channel: Tensor | None,
    scale_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    shift_per_element: bool,
    alpha: float,
    gain: float,
    clamp: float,
    needs: list[bool],
    impl: str,
) -> tuple[Tensor, ...]:
    results = _empty_results(grad_y, y, scale_channel, scale_map, noise, noise_strength, shift_per_element, needs)
    if y.numel() == 0:
        return tuple(result.zero_() for result in results)
    layout, exact = _dispatch.memory_format(y), _dispatch.accumulator(y.dtype)
    y, grad_y = y.contiguous(memory_format=layout), grad_y.contiguous(memory_format=layout)
    if x is not None:
        x = x.contiguous(memory_format=layout)
    grad_x, _, grad_scale_map, grad_shift_map, _, _, _ = results
    scale_per_element = _epilogue.is_per_element(scale_map)
    want_sums = any((*needs[4:], needs[1], needs[2] and not scale_per_element, needs[3] and not shift_per_element))
    element_scale = grad_scale_map if needs[2] and scale_per_element else None
    element_shift = grad_shift_map if needs[3] and shift_per_element else None
    activation = _epilogue.Activation(alpha, gain, clamp)
    terms = (scale_channel, scale_map, None, noise, noise_strength, None, activation)
    shape = _epilogue.native_shape(y, impl)
    batch, channels, pixels, last, row_block, lane_block = shape
    rows, lanes = (pixels, channels) if last else (channels, pixels)
    row_sums = lane_sums = strength_sum = None
    outputs = (grad_x if needs[0] else None, element_scale, element_shift)
    if impl == "triton":
        from garfast.ops.triton import noise_bias_act as kernels

        row_sums, lane_sums = kernels.backward(grad_y, y, x, *terms, *outputs, want_sums)
    else:
        row_partials = lane_partials = None
        if want_sums:
            row_partials = y.new_empty(2, batch, -(-lanes // lane_block), rows, dtype=exact)
            lane_partials = y.new_empty(2, batch, -(-rows // row_block), lanes, dtype=exact)
            row_sums, lane_sums = y.new_empty(2, batch, rows, dtype=exact), y.new_empty(2, batch, lanes, dtype=exact)
            strength_sum = y.new_empty((), dtype=exact) if needs[5] and impl == "cpu" else None
        _dispatch.call_native(
            impl,
            f"noise_bias_act_backward_{_dispatch.dtype_suffix(y.dtype)}",
            y,
            shape,
            _epilogue.native_terms(y, *terms),
            *(grad_y, y, x, *outputs, row_partials, lane_partials, row_sums, lane_sums),
            *((strength_sum,) if impl == "cpu" else ()),
        )
    if row_sums is None or lane_sums is None:
        return tuple(results)
    by_channel, by_pixel = (lane_sums, row_sums) if last else (row_sums, lane_sums)
    by_pixel = by_pixel.view(2, batch, 1, *y.shape[2:])
    if needs[1]:
        results[1].copy_(by_channel[1])
    if needs[2] and not scale_per_element:
        grad_scale_map.copy_(by_pixel[1])
    if needs[3] and not shift_per_element:
        grad_shift_map.copy_(by_pixel[0])
    if needs[4]:
        results[4].copy_(by_pixel[0] if noise_strength is None else by_pixel[0] * noise_strength)
    if needs[5]:
        assert noise is not None
        results[5].copy_((noise * by_pixel[0]).sum() if strength_sum is None else strength_sum)
    if needs[6]:
        torch.sum(by_channel[0], 0, out=results[6])
    return tuple(results)


def _fake_forward(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=_dispatch.memory_format(x))


# `scale_channel` [B, C] is the demodulation of modulated_conv2d, which ends in this operator and its backward.
_dispatch.register(
    _OP,
    "(Tensor x, Tensor? scale_channel, Tensor? scale_map, Tensor? shift_map, Tensor? noise, Tensor? noise_strength, "
    "Tensor? bias, float alpha, float gain, float clamp, str impl) -> Tensor",
    _forward,
    _fake_forward,
)


def _fake_backward(
    grad_y: Tensor,
    y: Tensor,
    x: Tensor | None,
    scale_channel: Tensor | None,
    scale_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    shift_per_element: bool,
    alpha: float,
    gain: float,
    clamp: float,
    needs: list[bool],
    impl: str,
) -> tuple[Tensor, ...]:
    return tuple(_empty_results(grad_y, y, scale_channel, scale_map, noise, noise_strength, shift_per_element, needs))


# `needs` says which of the results are wanted, in their order; the others are empty.
_dispatch.register(
    f"{_OP}_backward",
    "(Tensor grad_y, Tensor y, Tensor? x, Tensor? scale_channel, Tensor? scale_map, Tensor? noise, "
    "Tensor? noise_strength, bool shift_per_element, float alpha, float gain, float clamp, bool[] needs, str impl)"
    " -> (Tensor grad_x, Tensor grad_scale_channel, Tensor grad_scale_map, Tensor grad_shift_map, Tensor grad_noise, "
    "Tensor grad_noise_strength, Tensor grad_bias)",
    _backward,
    _fake_backward,
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale_channel, scale_map, shift_map, noise, strength, _, alpha, gain, clamp, impl = inputs
    ctx.needs = list(ctx.needs_input_grad[:7])
    with_x = ctx.needs[1] or ctx.needs[2]
    with_noise = ctx.needs[5]
    ctx.save_for_backward(
        output, x if with_x else None, scale_channel, scale_map, noise if with_noise else None, strength
    )
    ctx.shift_per_element = _epilogue.is_per_element(shift_map)
    ctx.activation = (alpha, gain, clamp)
    ctx.impl = impl


def _autograd(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
    y, x, scale_channel, scale_map, noise, strength = ctx.saved_tensors
    tensors = (grad_y, y, x, scale_channel, scale_map, noise, strength)
    op = _dispatch.operator(f"{_OP}_backward", *tensors)
    grads = op(*tensors, ctx.shift_per_element, *ctx.activation, ctx.needs, ctx.impl)
    return (*(grad if need else None for grad, need in zip(grads, ctx.needs, strict=True)), None, None, None, None)


def _backward_setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.activation = inputs[8:11]
    ctx.needs = inputs[11]
    ctx.set_materialize_grads(False)


def _second_derivative(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
    """The backward is linear in each of grad_y, x, d, m, noise and strength (dy/dv counts as constant), so this is too.

    Plain PyTorch, hence differentiable further. With g = grad_y dy/dv the backward gives
        gx = g d m, gd = sum g m x, gm = sum g d x, gt = sum g, gn = strength sum g, gs = sum g noise, gb = sum g
    """
    grad_y, y, x, d, m, noise, strength = ctx.saved_tensors
    alpha, gain, clamp = ctx.activation
    exact = _dispatch.accumulator(y.dtype)
    gx, gd, gm, gt, gn, gs, gb = (
        grad.to(exact) if grad is not None and need else None for grad, need in zip(grads, ctx.needs, strict=True)
    )
    # Not `where` of two numbers, which makes them numbers of the default dtype first.
    slope = torch.full_like(y, gain * alpha, dtype=exact).masked_fill(y > 0, gain)
    bound = _epilogue.native_clamp(clamp, y.dtype)
    slope = torch.where(y.abs() >= bound, 0.0, slope)
    g = grad_y.to(exact) * slope

    def widened(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(exact)

    xw, mw, noisew = widened(x), widened(m), widened(noise)
    dw = None if d is None else d[:, :, None, None]
    if gd is not None:
        gd = gd[:, :, None, None]
    total = _add(
        _multiply(gx, dw, mw),
        _multiply(gd, xw, mw),
        _multiply(gm, xw, dw),
        gt,
        _multiply(gn, strength),
        _multiply(gs, noisew),
        None if gb is None else gb[:, None, None],
    )
    needs_y, _, needs_x, needs_d, needs_m, needs_noise, needs_strength = ctx.needs_input_grad[:7]
    grad_grad_y = grad_x = grad_d = grad_m = grad_noise = grad_strength = None
    if needs_y and total is not None:
        grad_grad_y = (slope * total).expand(y.shape).to(y.dtype)
    if needs_x:
        grad_x = _add(_multiply(gm, g, dw), _multiply(gd, g, mw))
        grad_x = None if grad_x is None else grad_x.to(x.dtype)
    if needs_d:
        grad_d = _add(_multiply(gx, g, mw), _multiply(gm, g, xw))
        grad_d = None if grad_d is None else grad_d.sum((2, 3))
    if needs_m:
        grad_m = _add(_multiply(gx, g, dw), _multiply(gd, g, xw))
        grad_m = None if grad_m is None else grad_m.sum_to_size(m.shape).to(m.dtype)
    if needs_noise and gs is not None:
        grad_noise = (gs * g).sum_to_size(noise.shape).to(noise.dtype)
    if needs_strength and gn is not None:
        grad_strength = (gn * g).sum()
    return grad_grad_y, None, grad_x, grad_d, grad_m, grad_noise, grad_strength, *(None,) * 6


def _multiply(first: Tensor | None, *factors: Tensor | None) -> Tensor | None:
    """The product; None if ``first`` is None; a factor that is None counts as 1."""
    for factor in factors:
        if first is not None and factor is not None:
            first = first * factor
    return first


def _add(*terms: Tensor | None) -> Tensor | None:
    """The sum of the terms that are not None, or None."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


_dispatch.register_autograd(_OP, _autograd, _setup_context)
_dispatch.register_autograd(f"{_OP}_backward", _second_derivative, _backward_setup_context)
