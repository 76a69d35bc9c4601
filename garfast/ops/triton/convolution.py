"""modulated_conv2d without up-sampling as one Triton kernel: an implicit matrix product between prologue and epilogue.

y = clamp(act(d m conv(s x, w) + t + strength noise + bias) gain)

A program makes a tile of pixels by output channels of one sample. Its sum runs over the taps and the input channels;
each step multiplies the pixels that a tap meets by the style on their way in.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from garfast.ops import _dispatch, _epilogue, _native
from garfast.ops._conv_triton import Tile
from garfast.ops.triton.noise_bias_act import epilogue, flags, place


@triton.jit
def _garfast_convolution_kernel(
    x, weight, style, f, y, scale_channel, scale_map, shift_map, noise, strength, bias, scale_stride, shift_stride,
    noise_stride, inputs, outputs, height, width, x_batch, x_channel, x_row, x_column, pixel_stride, channel_stride,
    alpha, gain, clamp,
    KERNEL: tl.constexpr, KEEP: tl.constexpr, HAS_D: tl.constexpr, HAS_SCALE: tl.constexpr, SCALE_FULL: tl.constexpr,
    HAS_SHIFT: tl.constexpr, SHIFT_FULL: tl.constexpr, HAS_NOISE: tl.constexpr, HAS_STRENGTH: tl.constexpr,
    HAS_BIAS: tl.constexpr, CLAMP: tl.constexpr, PRECISION: tl.constexpr, BLOCK_PIXELS: tl.constexpr,
    BLOCK_OUTPUTS: tl.constexpr, BLOCK_INPUTS: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    sample, pixel_block, channel_block = place(tl.cdiv(height * width, BLOCK_PIXELS), tl.cdiv(outputs, BLOCK_OUTPUTS))
    pixel = pixel_block * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    channel = channel_block * BLOCK_OUTPUTS + tl.arange(0, BLOCK_OUTPUTS)
    pixel_in, channel_in = pixel < height * width, channel < outputs
    row, column = pixel // width - KERNEL // 2, pixel % width - KERNEL // 2
    x += sample * x_batch
    style += sample * inputs
    blocks = tl.cdiv(inputs, BLOCK_INPUTS)
    total = tl.zeros((BLOCK_PIXELS, BLOCK_OUTPUTS), tl.float32)
    for step in range(KERNEL * KERNEL * blocks):
        tap = step // blocks
        source = (step % blocks) * BLOCK_INPUTS + tl.arange(0, BLOCK_INPUTS)
        source_in = source < inputs
        v, h = row + tap // KERNEL, column + tap % KERNEL
        there = pixel_in & (v >= 0) & (v < height) & (h >= 0) & (h < width)
        at = (v * x_row + h * x_column)[:, None] + (source * x_channel)[None, :]
        value = tl.load(x + at, there[:, None] & source_in[None, :], 0)
        value = (value.to(tl.float32) * tl.load(style + source, source_in, 0)[None, :]).to(x.dtype.element_ty)
        where = (channel * KERNEL * KERNEL + tap)[None, :] * inputs + source[:, None]
        factor = tl.load(weight + where, source_in[:, None] & channel_in[None, :], 0)
        if WIDEN:
            value, factor = value.to(tl.float32), factor.to(tl.float32)
        total = tl.dot(value, factor, total, input_precision=PRECISION)
    inside = pixel_in[:, None] & channel_in[None, :]
    within = pixel[:, None] * pixel_stride + channel[None, :] * channel_stride
    offset = sample * outputs * height * width + within
    if KEEP:
        # The epilogue is that of the number kept, as where it runs apart.
        rounded = total.to(f.dtype.element_ty)
        tl.store(f + offset, rounded, inside)
        total = rounded.to(tl.float32)
    result = epilogue(
        total, scale_channel, scale_map, shift_map, noise, strength, bias, scale_stride, shift_stride, noise_stride,
        sample, pixel, channel, pixel_in, channel_in, within, outputs, alpha, gain, clamp,
        HAS_D, HAS_SCALE, SCALE_FULL, HAS_SHIFT, SHIFT_FULL, HAS_NOISE, HAS_STRENGTH, HAS_BIAS, CLAMP, tl.float32,
    )  # fmt: skip
    tl.store(y + offset, result.to(y.dtype.element_ty), inside)


def forward(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    terms: _epilogue.KernelTerms,
    activation: _epilogue.Activation,
    f: Tensor | None,
    y: Tensor,
    tile: Tile,
) -> None:
    """Write ``y``, and the convolution of x * style to ``f`` unless that is None; `_conv_triton.why_not` must be ''.

    ``x`` may have any strides; ``weight`` is copied into channels_last memory unless it lies there; ``f`` has the
    layout of ``y``, which is dense. float32 is multiplied as tf32 where ``torch.backends.cudnn`` allows it.
    """
    batch, inputs, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    native = _epilogue.native_terms(y, *terms, activation)
    d, m, m_stride, _, t, t_stride, _, noise, noise_stride, strength, bias, alpha, gain, clamp = native
    last = _dispatch.memory_format(y) == torch.channels_last
    weight = weight.contiguous(memory_format=torch.channels_last)
    grid = (triton.cdiv(height * width, tile.pixels) * triton.cdiv(outputs, tile.outputs) * batch,)
    with _dispatch.device_of(y):
        _garfast_convolution_kernel[grid](
            *(x, weight, style.contiguous(), f, y, d, m, t, noise, strength, bias, m_stride, t_stride, noise_stride),
            *(inputs, outputs, height, width, *x.stride(), *((outputs, 1) if last else (1, height * width))),
            *(alpha, gain, clamp),
            KERNEL=kernel,
            KEEP=f is not None,
            PRECISION="tf32" if x.dtype == torch.float32 and _dispatch.tf32_allowed() else "ieee",
            BLOCK_PIXELS=tile.pixels,
            BLOCK_OUTPUTS=tile.outputs,
            BLOCK_INPUTS=tile.inputs,
            # Triton's interpreter multiplies the bits of bfloat16 as integers.
            WIDEN=_native.TRITON_INTERPRETED and x.dtype == torch.bfloat16,
            num_warps=tile.warps,
            num_stages=tile.stages,
            **flags(native),
        )
