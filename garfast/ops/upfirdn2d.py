"""Up-sample, pad, filter, down-sample: one operator for blurs, resampling and their gradients.

In each direction, with zeros inserted behind every sample so that there are ``up`` times as many:
y[o] = gain * sum_j f[n - 1 - j] z[o * down + j],   z[i] = x[(i - pad) / up] where that is a sample of x, else 0
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.ops import _dispatch

_OP = "upfirdn2d"


def upfirdn2d(
    x: Tensor,
    filter: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "auto",
) -> Tensor:
    """Insert zeros (``up``), pad or crop, convolve with ``filter``, keep every ``down``-th sample, times ``gain``.

    Args:
        x: [B, C, H, W], float32, float16, bfloat16 or float64, any layout; 16-bit formats are summed in float32.
        filter: [n] (separable: its outer product with itself) or [n, m], a constant: it gets no gradient.
        up, down: factors in both directions, at least 1.
        padding: zeros around the up-sampled image: one number or (left, right, top, bottom); negative crops.
        flip_filter: correlate instead of convolve.
        gain: factor of the result. Up-sampling that keeps the brightness needs up^2 for a filter of sum 1.
        impl: 'auto', 'reference', 'cpu' or 'cuda'.

    Returns:
        [B, C, H', W'] in the dtype and layout of ``x``, with H' = (H up + top + bottom - n) // down + 1, W' alike.

    Differentiable to any order with respect to ``x``: its gradient is again an upfirdn2d. Nothing but the filter is
    kept for the backward.

    Raises:
        ArgumentError: an argument has the wrong type, shape or range, or nothing would be left of the image.
        BackendUnavailableError: ``impl`` cannot run here.
    """
    _dispatch.check_tensor(_OP, "x", x, ["B", "C", "H", "W"])
    taps = check_filter(_OP, "filter", filter, x)
    for name, factor in (("up", up), ("down", down)):
        if not isinstance(factor, int) or factor < 1:
            raise ArgumentError(f"{_OP}: {name} must be an integer of at least 1, not {factor!r}")
    sides = list(padding) if isinstance(padding, Sequence) else [padding] * 4
    if len(sides) != 4 or not all(isinstance(side, int) for side in sides):
        raise ArgumentError(f"{_OP}: padding must be an integer or (left, right, top, bottom), not {padding!r}")
    _dispatch.check_number(_OP, "gain", gain)
    height, width = _out_size(x, taps, up, down, sides)
    if height < 1 or width < 1:
        raise ArgumentError(
            f"{_OP}: nothing is left of x of shape {list(x.shape)} with up={up}, padding={sides} and a filter of shape "
            f"{list(filter.shape)}: pad more or crop less"
        )
    backend = _dispatch.resolve(_OP, impl, x.device)
    if backend == "reference":
        return upfirdn2d_reference(x, taps, up, down, sides, flip_filter, gain)
    y: Tensor = _dispatch.operator(_OP, x)(x, taps, up, down, sides, flip_filter, float(gain), backend)
    return y


def check_filter(op: str, name: str, value: Any, like: Tensor) -> Tensor:
    """The filter as a constant in the dtype that the kernels compute in.

    Raises:
        ArgumentError: it is not a tensor [n] or [n, m].
    """
    square = isinstance(value, Tensor) and value.dim() == 2
    _dispatch.check_tensor(op, name, value, ["n", "m"] if square else ["n"], like=like)
    if value.numel() == 0:
        raise ArgumentError(f"{op}: {name} must have at least one tap, but has shape {list(value.shape)}")
    return value.detach().to(_dispatch.accumulator(like.dtype))


def upfirdn2d_reference(
    x: Tensor, filter: Tensor, up: int, down: int, padding: Sequence[int], flip_filter: bool, gain: float
) -> Tensor:
    """The same in plain PyTorch. ``padding`` is (left, right, top, bottom)."""
    batch, channels, height, width = x.shape
    if filter.dim() == 1:
        filter = torch.outer(filter, filter)
    taps = filter * gain if flip_filter else filter.flip(0, 1) * gain
    z = x.to(filter.dtype)
    if up > 1:
        z = F.pad(z[:, :, :, None, :, None], (0, up - 1, 0, 0, 0, up - 1)).reshape(
            batch, channels, height * up, width * up
        )
    z = F.pad(z, tuple(padding))
    if z.numel() == 0 or channels == 0:
        shape = ((size - taps.shape[i]) // down + 1 for i, size in enumerate(z.shape[2:]))
        return z.sum() + x.new_zeros(batch, channels, *shape)
    kernel = taps.expand(channels, 1, *taps.shape)
    with _dispatch.without_autocast(x.device.type):
        y = F.conv2d(z, kernel, stride=down, groups=channels).to(x.dtype)
    return y.contiguous(memory_format=_dispatch.memory_format(x))


def _out_size(x: Tensor, filter: Tensor, up: int, down: int, padding: Sequence[int]) -> tuple[int, int]:
    left, right, top, bottom = padding
    height = (x.shape[2] * up + top + bottom - filter.shape[0]) // down + 1
    width = (x.shape[3] * up + left + right - filter.shape[-1]) // down + 1
    return height, width


def native_fir(
    filter: Tensor, up: int, down: int, padding: Sequence[int], flip_filter: bool, gain: float
) -> tuple[Any, ...]:
    """The filter as the native kernels take it, see Fir in upfirdn2d.h."""
    filter = filter.contiguous()
    left, _, top, _ = padding
    return (filter, filter.shape[0], filter.shape[-1], filter.dim() == 1, flip_filter, up, down, left, top, gain)


def _upfirdn2d(
    x: Tensor, filter: Tensor, up: int, down: int, padding: list[int], flip_filter: bool, gain: float, impl: str
) -> Tensor:
    layout = _dispatch.memory_format(x)
    x = x.contiguous(memory_format=layout)
    y = _fake_upfirdn2d(x, filter, up, down, padding, flip_filter, gain, impl)
    if y.numel() == 0:
        return y
    if impl == "triton":  # only modulated_conv2d asks for it, to blur
        from garfast.ops.triton import modulated_conv2d as kernels

        kernels.blur_epilogue(x, filter, padding, flip_filter, gain, y, None)
        return y
    batch, channels, height, width = x.shape
    outer, inner = (batch, channels) if layout == torch.channels_last else (batch * channels, 1)
    _dispatch.call_native(
        impl,
        f"upfirdn2d_{_dispatch.dtype_suffix(x.dtype)}",
        x,
        native_fir(filter, up, down, padding, flip_filter, gain),
        (outer, height, width, inner, *y.shape[2:]),
        x,
        y,
    )
    return y


def _fake_upfirdn2d(
    x: Tensor, filter: Tensor, up: int, down: int, padding: list[int], flip_filter: bool, gain: float, impl: str
) -> Tensor:
    size = (*x.shape[:2], *_out_size(x, filter, up, down, padding))
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_dispatch.memory_format(x))


_dispatch.register(
    _OP,
    "(Tensor x, Tensor filter, int up, int down, int[] padding, bool flip_filter, float gain, str impl) -> Tensor",
    _upfirdn2d,
    _fake_upfirdn2d,
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, filter, *ctx.options = inputs
    ctx.save_for_backward(filter)
    ctx.in_size, ctx.out_size = x.shape[2:], output.shape[2:]


def adjoint_padding(
    taps: tuple[int, int], up: int, down: int, padding: Sequence[int], in_size: Sequence[int], out_size: Sequence[int]
) -> list[int]:
    """The padding (left, right, top, bottom) of the adjoint, which is the operator with ``up`` and ``down`` swapped."""
    left, _, top, _ = padding
    return [
        taps[1] - 1 - left,
        in_size[1] * up - out_size[1] * down + left - up + 1,
        taps[0] - 1 - top,
        in_size[0] * up - out_size[0] * down + top - up + 1,
    ]


def _autograd(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
    (filter,) = ctx.saved_tensors
    up, down, padding, flip_filter, gain, impl = ctx.options
    adjoint = adjoint_padding((filter.shape[0], filter.shape[-1]), up, down, padding, ctx.in_size, ctx.out_size)
    grad_x = _dispatch.operator(_OP, grad_y)(grad_y, filter, down, up, adjoint, not flip_filter, gain, impl)
    return (grad_x, *(None,) * 7)


_dispatch.register_autograd(_OP, _autograd, _setup_context)
