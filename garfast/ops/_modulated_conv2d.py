"""The registered operator behind modulated_conv2d: the library's convolution between fused passes, and its autograd.

On a GPU the forward may be one kernel instead, see _conv_mma, _conv_triton and _conv_choice; on the CPU convolution and
first derivative are matrix products in float32, see _conv_planes.

f = convolution of x * style with the shared weight, blurred after up-sampling;  y = epilogue of f, see noise_bias_act.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.ops import (
    _conv_choice,
    _conv_mma,
    _conv_planes,
    _conv_triton,
    _dispatch,
    _epilogue,
    noise_bias_act,
    upfirdn2d,
)

# From this many input pixels on, the CPU library's transposed convolution gains more from channels_last (5 to 20 % at
# 64x64 and above) than rearranging image and weight costs; its plain convolution does not.
_CPU_CHANNELS_LAST_PIXELS = 4096

_LINEAR = (1.0, 1.0, float("nan"))


def blur_padding(taps: Tensor, size: int) -> list[int]:
    """Padding (left, right, top, bottom) of the blur that makes [2H, 2W] of a transposed convolution's result."""
    # That result has 2H + size - 2 rows, of which the filter takes len - 1; what lacks goes to both ends.
    lack = taps.shape[0] - 1 - (size - 2)
    before, after = (lack + 1) // 2, lack // 2
    return [before, after, before, after]


def layout_of(x: Tensor, weight: Tensor, taps: Tensor | None, impl: str) -> torch.memory_format:
    """The memory format that a backend computes in."""
    last = torch.channels_last
    if _dispatch.memory_format(x) == last or _dispatch.memory_format(weight) == last:
        return last
    if impl == "cpu":
        large = x.shape[0] * x.shape[2] * x.shape[3] >= _CPU_CHANNELS_LAST_PIXELS
        faster = taps is not None and large and bool(_conv_planes.why_not(x, weight))
    else:
        faster = x.dtype in (torch.float16, torch.bfloat16)
    return last if faster else torch.contiguous_format


def modulate(x: Tensor, style: Tensor, impl: str) -> Tensor:
    """x * style[:, :, None, None] in one pass: the epilogue with nothing but d."""
    op = _dispatch.operator("noise_bias_act", x, style)
    y: Tensor = op(x, style, None, None, None, None, None, *_LINEAR, impl)
    return y


def _empty(x: Tensor, weight: Tensor, taps: Tensor | None, impl: str) -> Tensor:
    up = 1 if taps is None else 2
    size = (x.shape[0], weight.shape[0], x.shape[2] * up, x.shape[3] * up)
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout_of(x, weight, taps, impl))


def _fake(x: Tensor, weight: Tensor, style: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    taps, keep, impl = rest[6], rest[10], rest[11]
    y = _empty(x, weight, taps, impl)
    return y, torch.empty_like(y) if keep else x.new_empty(0)


def _forward(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    scale_channel: Tensor | None,
    scale_map: Tensor | None,
    shift_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    bias: Tensor | None,
    taps: Tensor | None,
    alpha: float,
    gain: float,
    clamp: float,
    keep: bool,
    impl: str,
) -> tuple[Tensor, Tensor]:
    layout = layout_of(x, weight, taps, impl)
    terms = (scale_channel, scale_map, shift_map, noise, noise_strength, bias)
    activation = _epilogue.Activation(alpha, gain, clamp)
    if x.shape[0] * x.shape[2] * x.shape[3] * weight.shape[0] == 0:
        y = _empty(x, weight, taps, impl)
        return y, torch.empty_like(y) if keep else x.new_empty(0)

    def library() -> tuple[Tensor, Tensor]:
        modulated = modulate(x.contiguous(memory_format=layout), style, impl)
        if taps is None:
            f = F.conv2d(modulated, weight, padding=weight.shape[2] // 2).contiguous(memory_format=layout)
            y = torch.empty_like(f) if keep else f
            noise_bias_act.run_forward(f, terms, activation, y, impl)
            return y, f if keep else x.new_empty(0)
        z = F.conv_transpose2d(modulated, weight.transpose(0, 1), stride=2).contiguous(memory_format=layout)
        y = _empty(x, weight, taps, impl).contiguous(memory_format=layout)
        f = torch.empty_like(y) if keep else x.new_empty(0)
        _blur_epilogue(z, taps, weight.shape[2], terms, activation, f if keep else None, y, impl)
        return y, f

    def mma(tile: _conv_mma.Tile) -> tuple[Tensor, Tensor]:
        y = _empty(x, weight, taps, impl)
        f = torch.empty_like(y) if keep else x.new_empty(0)
        _conv_mma.forward(x, weight, style, taps, terms, activation, f if keep else None, y, tile)
        return y, f

    def planes() -> tuple[Tensor, Tensor]:
        inputs = x.contiguous(), weight.contiguous(), style.contiguous()
        y = _empty(x, weight, taps, impl)
        f = torch.empty_like(y) if keep else x.new_empty(0)
        kept = f if keep else None
        if taps is not None:
            z = _conv_planes.convolve_transposed(*inputs)
            _blur_epilogue(z, taps, 3, terms, activation, kept, y, impl)
        elif not _conv_planes.convolve(*inputs, terms, activation, kept, y):
            if keep:
                f.copy_(y)
            noise_bias_act.run_forward(y, terms, activation, y, impl)
        return y, f

    def with_tile(tile: _conv_triton.Tile) -> tuple[Tensor, Tensor]:
        from garfast.ops.triton import convolution

        y = _empty(x, weight, taps, impl)
        f = torch.empty_like(y) if keep else x.new_empty(0)
        convolution.forward(x, weight, style, terms, activation, f if keep else None, y, tile)
        return y, f

    if impl == "cpu" and not _conv_planes.why_not(x, weight):
        return planes()
    paths: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {}
    if impl == "cuda" and not _conv_mma.why_not(x, weight, taps):
        first, *others = _conv_mma.tiles_of(x, weight, taps)
        own, paths["mma"] = "mma", partial(mma, first)
        paths |= {f"mma {other.name}": partial(mma, other) for other in others}
    elif impl == "triton" and not _conv_triton.why_not(x, weight, taps):
        tile = _conv_triton.choose_tile(x.shape[0], weight.shape[0], x.shape[2] * x.shape[3])
        own, paths["triton"] = "triton", partial(with_tile, tile)
        paths |= {other.name: partial(with_tile, other) for other in _conv_triton.TILES if other != tile}
    else:
        return library()
    paths["library"] = library
    return paths[_conv_choice.choose(_conv_choice.layer_of(x, weight, taps, keep), x.device, paths, own)]()


def _blur_epilogue(
    z: Tensor,
    taps: Tensor,
    size: int,
    terms: _epilogue.KernelTerms,
    activation: _epilogue.Activation,
    f: Tensor | None,
    y: Tensor,
    impl: str,
) -> None:
    """Write ``y``, and the blurred ``z`` to ``f`` unless that is None."""
    padding = blur_padding(taps, size)
    if impl == "triton":
        from garfast.ops.triton import modulated_conv2d as kernels

        kernels.blur_epilogue(z, taps, padding, False, 4.0, f, y, terms, activation)
        return
    batch, channels, height, width = z.shape
    last = _dispatch.memory_format(y) == torch.channels_last
    outer, inner = (batch, channels) if last else (batch * channels, 1)
    _dispatch.call_native(
        impl,
        f"blur_epilogue_{_dispatch.dtype_suffix(z.dtype)}",
        z,
        upfirdn2d.native_fir(taps, 1, 1, padding, False, 4.0),
        (outer, height, width, inner, *y.shape[2:]),
        _epilogue.native_shape(y, impl),
        _epilogue.native_terms(y, *terms, activation),
        *(z, f, y),
    )


_dispatch.register(
    "modulated_conv2d",
    "(Tensor x, Tensor weight, Tensor style, Tensor? scale_channel, Tensor? scale_map, Tensor? shift_map, "
    "Tensor? noise, Tensor? noise_strength, Tensor? bias, Tensor? taps, float alpha, float gain, float clamp, "
    "bool keep, str impl) -> (Tensor y, Tensor f)",
    _forward,
    _fake,
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, style, d, m, t, noise, strength, _, taps, alpha, gain, clamp, keep, impl = inputs
    y, f = output
    ctx.needs = list(ctx.needs_input_grad[:9])
    with_noise = ctx.needs[7]
    ctx.save_for_backward(x, weight, style, y, f if keep else None, d, m, noise if with_noise else None, strength, taps)
    ctx.shift_per_element = _epilogue.is_per_element(t)
    ctx.activation = (alpha, gain, clamp)
    ctx.impl = impl
    ctx.set_materialize_grads(False)


def _autograd(ctx: Any, grad_y: Tensor | None, grad_f: Tensor | None) -> tuple[Any, ...]:
    """Every step is differentiable: a registered operator or PyTorch's own."""
    x, weight, style, y, f, d, m, noise, strength, taps = ctx.saved_tensors
    needs_x, needs_weight, needs_style, *needs_terms = ctx.needs
    inner = needs_x or needs_weight or needs_style
    impl = ctx.impl
    grads: list[Tensor | None] = [None] * 9
    g = None
    if grad_y is not None:
        needs = [inner, *needs_terms]
        tensors = (grad_y, y, f, d, m, noise, strength)
        op = _dispatch.operator("noise_bias_act_backward", *tensors)
        g, *of_terms = op(*tensors, ctx.shift_per_element, *ctx.activation, needs, impl)
        grads[3:] = [grad if need else None for grad, need in zip(of_terms, needs_terms, strict=True)]
    if inner:
        # A second derivative comes through f as well, which the first one keeps.
        if grad_f is not None:
            g = grad_f if g is None else g + grad_f
        if g is not None:
            with _dispatch.without_autocast(g.device.type):
                needs_inner = (needs_x, needs_weight, needs_style)
                grads[:3] = _convolution_backward(g, x, weight, style, taps, needs_inner, impl)
    return (*grads, *(None,) * 6)


def _convolution_backward(
    g: Tensor,
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    taps: Tensor | None,
    needs: tuple[bool, bool, bool],
    impl: str,
) -> list[Tensor | None]:
    """Gradients of x, weight and style from that of f."""
    needs_x, needs_weight, needs_style = needs
    if g.numel() == 0:
        zeros = zip((x, weight, style), needs, strict=True)
        return [torch.zeros_like(tensor) if need else None for tensor, need in zeros]
    size, layout = weight.shape[2], layout_of(x, weight, taps, impl)
    if taps is not None:
        z_size = [2 * length + size - 2 for length in x.shape[2:]]
        length = taps.shape[0]
        adjoint = upfirdn2d.adjoint_padding((length, length), 1, 1, blur_padding(taps, size), z_size, g.shape[2:])
        g = _dispatch.operator("upfirdn2d", g)(g, taps, 1, 1, adjoint, True, 4.0, impl)
    grad_x = grad_weight = grad_style = None
    grad_modulated: Any = None
    # These have no derivative of their own; where one may be asked for the library's convolutions serve.
    if impl == "cpu" and not _conv_planes.why_not(x, weight) and not torch.is_grad_enabled():
        op = _dispatch.operator("conv_planes_gradients", g, x, weight, style)
        grad_modulated, grad_weight = op(g, x, weight, style, taps is not None, needs_x or needs_style, needs_weight)
    elif (needs_x or needs_style) and taps is None:
        grad_modulated = F.conv_transpose2d(g, weight, padding=size // 2)
    elif needs_x or needs_style:
        grad_modulated = F.conv2d(g, weight.transpose(0, 1), stride=2)
    if needs_x or needs_style:
        # y = x s and its derivatives; its own result is not read, since the slope of 'linear' is 1 everywhere.
        tensors = (grad_modulated, grad_modulated.detach(), x if needs_style else None, style, None, None, None)
        op = _dispatch.operator("noise_bias_act_backward", *tensors)
        grad_x, grad_style, *_ = op(*tensors, False, *_LINEAR, [needs_x, needs_style, *[False] * 5], impl)
    if needs_weight and grad_weight is None:
        modulated = modulate(x.contiguous(memory_format=layout), style, impl)
        if taps is None:
            stride, padding = 1, size // 2
            kernel = weight
        else:
            # In channels_last the CPU library's gradient of a transposed convolution is twice as slow.
            stride, padding = 2, 0
            kernel = weight.transpose(0, 1)
            if impl == "cpu":
                g, modulated = g.contiguous(), modulated.contiguous()
        _, grad_weight, _ = torch.ops.aten.convolution_backward(
            g, modulated, kernel, None, [stride] * 2, [padding] * 2, [1, 1], taps is not None, [0, 0], 1,
            [False, True, False],
        )  # fmt: skip
        if taps is not None:
            grad_weight = grad_weight.transpose(0, 1)
    return [grad_x if needs_x else None, grad_weight if needs_weight else None, grad_style if needs_style else None]


_dispatch.register_autograd("modulated_conv2d", _autograd, _setup_context)
