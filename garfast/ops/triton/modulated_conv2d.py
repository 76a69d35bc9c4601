"""The end of an up-sampling modulated_conv2d in Triton: the blur on the output tile, then the epilogue, in one pass.

Without its epilogue it is the blur alone, which is its own adjoint's kernel as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from garfast.ops import _dispatch, _epilogue
from garfast.ops.triton.noise_bias_act import accumulator, epilogue, flags, place


@triton.jit
def _garfast_blur_kernel(
    z, f, y, taps, scale_channel, scale_map, shift_map, noise, strength, bias, scale_stride, shift_stride,
    noise_stride, channels, height, width, out_height, out_width, pad_left, pad_top, fir_gain, alpha, gain, clamp,
    TAPS: tl.constexpr, FLIP: tl.constexpr, LAST: tl.constexpr, KEEP: tl.constexpr, EPILOGUE: tl.constexpr,
    HAS_D: tl.constexpr, HAS_SCALE: tl.constexpr, SCALE_FULL: tl.constexpr, HAS_SHIFT: tl.constexpr,
    SHIFT_FULL: tl.constexpr, HAS_NOISE: tl.constexpr, HAS_STRENGTH: tl.constexpr, HAS_BIAS: tl.constexpr,
    CLAMP: tl.constexpr, ACC: tl.constexpr, BLOCK_PIXELS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    # A tile of pixels by channels; strides alone tell the two layouts apart.
    sample, pixel_block, channel_block = place(
        tl.cdiv(out_height * out_width, BLOCK_PIXELS), tl.cdiv(channels, BLOCK_CHANNELS)
    )
    pixel = pixel_block * BLOCK_PIXELS + tl.arange(0, BLOCK_PIXELS)
    channel = channel_block * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
    pixel_in, channel_in = pixel < out_height * out_width, channel < channels
    inside = pixel_in[:, None] & channel_in[None, :]
    row, column = pixel // out_width - pad_top, pixel % out_width - pad_left
    if LAST:
        pixel_stride, channel_stride, in_stride, out_stride = channels, 1, 1, 1
    else:
        pixel_stride, channel_stride, in_stride, out_stride = 1, 1, height * width, out_height * out_width
    total = tl.zeros((BLOCK_PIXELS, BLOCK_CHANNELS), ACC)
    base = z + sample * channels * height * width + channel[None, :].to(tl.int64) * channel_stride * in_stride
    for i in range(TAPS):
        for j in range(TAPS):
            if FLIP:
                weight = tl.load(taps + i) * tl.load(taps + j)
            else:
                weight = tl.load(taps + TAPS - 1 - i) * tl.load(taps + TAPS - 1 - j)
            v, h = row + i, column + j
            there = (v >= 0) & (v < height) & (h >= 0) & (h < width)
            at = (v * width + h)[:, None].to(tl.int64) * pixel_stride
            total += weight * tl.load(base + at, there[:, None] & inside, 0).to(ACC)
    total *= fir_gain
    within = pixel[:, None].to(tl.int64) * pixel_stride + channel[None, :].to(tl.int64) * channel_stride * out_stride
    offset = sample * channels * out_height * out_width + within
    if KEEP:
        tl.store(f + offset, total.to(f.dtype.element_ty), inside)
    if EPILOGUE:
        total = epilogue(
            total, scale_channel, scale_map, shift_map, noise, strength, bias, scale_stride, shift_stride, noise_stride,
            sample, pixel, channel, pixel_in, channel_in, within, channels, alpha, gain, clamp,
            HAS_D, HAS_SCALE, SCALE_FULL, HAS_SHIFT, SHIFT_FULL, HAS_NOISE, HAS_STRENGTH, HAS_BIAS, CLAMP, ACC,
        )  # fmt: skip
        tl.store(y + offset, total.to(y.dtype.element_ty), inside)


def blur_epilogue(
    z: Tensor,
    taps: Tensor,
    padding: Sequence[int],
    flip: bool,
    gain: float,
    f: Tensor | None,
    y: Tensor | None,
    terms: _epilogue.KernelTerms = (None,) * 6,
    activation: _epilogue.Activation | None = None,
) -> None:
    """Write the blurred ``z`` to ``f`` and its epilogue to ``y``, unless None; all have the same layout.

    ``taps`` [n] in both directions; ``padding`` (left, right, top, bottom), negative to crop.
    """
    out = f if y is None else y
    assert out is not None
    activation = activation or _epilogue.Activation(1.0, 1.0, float("nan"))
    native = _epilogue.native_terms(out, *terms, activation)
    d, m, m_stride, _, t, t_stride, _, noise, noise_stride, strength, bias, alpha, act_gain, clamp = native
    batch, channels, out_height, out_width = out.shape
    last = _dispatch.memory_format(out) == torch.channels_last
    block_channels = min(64 if last else 4, triton.next_power_of_2(channels))
    block_pixels = min(1024 // block_channels, triton.next_power_of_2(out_height * out_width))
    grid = (triton.cdiv(out_height * out_width, block_pixels) * triton.cdiv(channels, block_channels) * batch,)
    with _dispatch.device_of(out):
        _garfast_blur_kernel[grid](
            *(z, f, y, taps, d, m, t, noise, strength, bias, m_stride, t_stride, noise_stride, channels),
            *(z.shape[2], z.shape[3], out_height, out_width, padding[0], padding[2], gain, alpha, act_gain, clamp),
            TAPS=taps.shape[0],
            FLIP=flip,
            LAST=last,
            KEEP=f is not None,
            EPILOGUE=y is not None,
            ACC=accumulator(z.dtype),
            BLOCK_PIXELS=block_pixels,
            BLOCK_CHANNELS=block_channels,
            **flags(native),
        )
