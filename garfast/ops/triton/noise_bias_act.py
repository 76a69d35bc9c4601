"""noise_bias_act in Triton: one program per tile of rows by lanes, see csrc/include/garfast/noise_bias_act.h.

Rows are channels and lanes pixels in a contiguous tensor, the other way round in channels_last. Sums are made per tile
and then over tiles, in an order that depends on the shape alone.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from garfast.ops import _dispatch, _epilogue


@triton.jit
def pixel_terms(
    scale_map, shift_map, noise, strength, scale_stride, shift_stride, noise_stride, sample, pixel, inside,
    HAS_SCALE: tl.constexpr, HAS_SHIFT: tl.constexpr, HAS_NOISE: tl.constexpr, HAS_STRENGTH: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Factor and addend of each pixel: m, and t + strength * noise."""
    scale = tl.full(pixel.shape, 1, ACC)
    shift = tl.zeros(pixel.shape, ACC)
    if HAS_SCALE:
        scale = tl.load(scale_map + sample * scale_stride + pixel, inside, 0).to(ACC)
    if HAS_SHIFT:
        shift = tl.load(shift_map + sample * shift_stride + pixel, inside, 0).to(ACC)
    if HAS_NOISE:
        value = tl.load(noise + sample * noise_stride + pixel, inside, 0).to(ACC)
        if HAS_STRENGTH:
            value *= tl.load(strength)
        shift += value
    return scale, shift


@triton.jit
def channel_terms(
    scale_channel, bias, channels, sample, channel, inside, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Factor and addend of each channel: d, and the bias."""
    scale = tl.full(channel.shape, 1, ACC)
    shift = tl.zeros(channel.shape, ACC)
    if HAS_D:
        scale = tl.load(scale_channel + sample * channels + channel, inside, 0).to(ACC)
    if HAS_BIAS:
        shift = tl.load(bias + channel, inside, 0).to(ACC)
    return scale, shift


@triton.jit
def activate(v, alpha, gain, clamp, CLAMP: tl.constexpr):
    """clamp(act(v) * gain)."""
    v = tl.where(v > 0, v, v * alpha) * gain
    if CLAMP:
        v = tl.where(v > clamp, clamp, tl.where(v < -clamp, -clamp, v))
    return v


@triton.jit
def epilogue(
    total, scale_channel, scale_map, shift_map, noise, strength, bias, scale_stride, shift_stride, noise_stride,
    sample, pixel, channel, pixel_in, channel_in, within, channels, alpha, gain, clamp,
    HAS_D: tl.constexpr, HAS_SCALE: tl.constexpr, SCALE_FULL: tl.constexpr, HAS_SHIFT: tl.constexpr,
    SHIFT_FULL: tl.constexpr, HAS_NOISE: tl.constexpr, HAS_STRENGTH: tl.constexpr, HAS_BIAS: tl.constexpr,
    CLAMP: tl.constexpr, ACC: tl.constexpr, PIXELS_FIRST: tl.constexpr = True,
):  # fmt: skip
    """The whole epilogue of a tile that lies at ``within`` in its sample: [pixels, channels] or [channels, pixels]."""
    pixel_scale, pixel_shift = pixel_terms(
        scale_map, shift_map, noise, strength, scale_stride, shift_stride, noise_stride, sample, pixel, pixel_in,
        HAS_SCALE and not SCALE_FULL, HAS_SHIFT and not SHIFT_FULL, HAS_NOISE, HAS_STRENGTH, ACC,
    )  # fmt: skip
    channel_scale, channel_shift = channel_terms(
        scale_channel, bias, channels, sample, channel, channel_in, HAS_D, HAS_BIAS, ACC
    )
    if PIXELS_FIRST:
        inside = pixel_in[:, None] & channel_in[None, :]
        scale = pixel_scale[:, None] * channel_scale[None, :]
        shift = pixel_shift[:, None] + channel_shift[None, :]
    else:
        inside = channel_in[:, None] & pixel_in[None, :]
        scale = channel_scale[:, None] * pixel_scale[None, :]
        shift = channel_shift[:, None] + pixel_shift[None, :]
    if SCALE_FULL:
        scale *= tl.load(scale_map + sample * scale_stride + within, inside, 0).to(ACC)
    if SHIFT_FULL:
        shift += tl.load(shift_map + sample * shift_stride + within, inside, 0).to(ACC)
    return activate(total * scale + shift, alpha, gain, clamp, CLAMP)


@triton.jit
def place(pixel_blocks, channel_blocks):
    """Sample, and the numbers of the pixel block (fastest) and the channel block, of this program; see `_block`."""
    program = tl.program_id(0)
    tile = program // pixel_blocks
    return (tile // channel_blocks).to(tl.int64), program % pixel_blocks, tile % channel_blocks


@triton.jit
def _block(row_blocks, lane_blocks):
    """Sample and place of this program's tile; all in one axis of the grid, the only one that may be long."""
    program = tl.program_id(0)
    row_block = program // lane_blocks
    return (row_block // row_blocks).to(tl.int64), row_block % row_blocks, program % lane_blocks


@triton.jit
def _garfast_forward_kernel(
    x, y, scale_channel, scale_map, shift_map, noise, strength, bias, scale_stride, shift_stride, noise_stride,
    channels, rows, lanes, row_blocks, lane_blocks, alpha, gain, clamp,
    LAST: tl.constexpr, HAS_D: tl.constexpr, HAS_SCALE: tl.constexpr, SCALE_FULL: tl.constexpr,
    HAS_SHIFT: tl.constexpr, SHIFT_FULL: tl.constexpr, HAS_NOISE: tl.constexpr, HAS_STRENGTH: tl.constexpr,
    HAS_BIAS: tl.constexpr, CLAMP: tl.constexpr, ACC: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_LANES: tl.constexpr,
):  # fmt: skip
    sample, row_block, lane_block = _block(row_blocks, lane_blocks)
    row = row_block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    lane = lane_block * BLOCK_LANES + tl.arange(0, BLOCK_LANES)
    row_in, lane_in = row < rows, lane < lanes
    inside = row_in[:, None] & lane_in[None, :]
    within = row[:, None].to(tl.int64) * lanes + lane[None, :]
    offset = sample * rows * lanes + within
    if LAST:
        pixel, pixel_in, channel, channel_in = row, row_in, lane, lane_in
    else:
        pixel, pixel_in, channel, channel_in = lane, lane_in, row, row_in
    result = epilogue(
        tl.load(x + offset, inside, 0).to(ACC), scale_channel, scale_map, shift_map, noise, strength, bias,
        scale_stride, shift_stride, noise_stride, sample, pixel, channel, pixel_in, channel_in, within, channels,
        alpha, gain, clamp, HAS_D, HAS_SCALE, SCALE_FULL, HAS_SHIFT, SHIFT_FULL, HAS_NOISE, HAS_STRENGTH, HAS_BIAS,
        CLAMP, ACC, LAST,
    )  # fmt: skip
    tl.store(y + offset, result.to(y.dtype.element_ty), inside)


@triton.jit
def _garfast_backward_kernel(
    grad_y, y, x, grad_x, grad_scale, grad_shift, row_partials, lane_partials, scale_channel, scale_map, scale_stride,
    channels, rows, lanes, row_blocks, lane_blocks, batch, alpha, gain, clamp,
    LAST: tl.constexpr, HAS_X: tl.constexpr, NEED_X: tl.constexpr, NEED_SCALE: tl.constexpr,
    NEED_SHIFT: tl.constexpr, SUMS: tl.constexpr, HAS_D: tl.constexpr, HAS_SCALE: tl.constexpr,
    SCALE_FULL: tl.constexpr, CLAMP: tl.constexpr, ACC: tl.constexpr, BLOCK_ROWS: tl.constexpr,
    BLOCK_LANES: tl.constexpr,
):  # fmt: skip
    sample, row_block, lane_block = _block(row_blocks, lane_blocks)
    row = row_block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    lane = lane_block * BLOCK_LANES + tl.arange(0, BLOCK_LANES)
    row_in, lane_in = row < rows, lane < lanes
    inside = row_in[:, None] & lane_in[None, :]
    within = row[:, None].to(tl.int64) * lanes + lane[None, :]
    offset = sample * rows * lanes + within
    if LAST:
        pixel, pixel_in, channel, channel_in = row, row_in, lane, lane_in
    else:
        pixel, pixel_in, channel, channel_in = lane, lane_in, row, row_in
    m, _ = pixel_terms(
        scale_map, scale_map, scale_map, scale_map, scale_stride, 0, 0, sample, pixel, pixel_in,
        HAS_SCALE and not SCALE_FULL, False, False, False, ACC,
    )  # fmt: skip
    d, _ = channel_terms(scale_channel, scale_channel, channels, sample, channel, channel_in, HAS_D, False, ACC)
    if LAST:
        m = tl.broadcast_to(m[:, None], (BLOCK_ROWS, BLOCK_LANES))
        d = tl.broadcast_to(d[None, :], (BLOCK_ROWS, BLOCK_LANES))
    else:
        m = tl.broadcast_to(m[None, :], (BLOCK_ROWS, BLOCK_LANES))
        d = tl.broadcast_to(d[:, None], (BLOCK_ROWS, BLOCK_LANES))
    if SCALE_FULL:
        m = tl.load(scale_map + sample * scale_stride + within, inside, 0).to(ACC)
    result = tl.load(y + offset, inside, 0).to(ACC)
    slope = tl.where(result > 0, gain, gain * alpha)
    if CLAMP:
        slope = tl.where(tl.abs(result) >= clamp, 0.0, slope)
    g = tl.load(grad_y + offset, inside, 0).to(ACC) * slope.to(ACC)
    if NEED_X:
        tl.store(grad_x + offset, (g * d * m).to(grad_x.dtype.element_ty), inside)
    if NEED_SHIFT:
        tl.store(grad_shift + offset, g.to(grad_shift.dtype.element_ty), inside)
    gx = tl.zeros((BLOCK_ROWS, BLOCK_LANES), ACC)
    if HAS_X:
        gx = g * tl.load(x + offset, inside, 0).to(ACC)
        if NEED_SCALE:
            tl.store(grad_scale + offset, (gx * d).to(grad_scale.dtype.element_ty), inside)
    if SUMS:
        # The sum along a row leaves out the row's own term, and so for lanes.
        if LAST:
            along_row, along_lane = gx * d, gx * m
        else:
            along_row, along_lane = gx * m, gx * d
        to_row = row_partials + (sample * lane_blocks + lane_block) * rows + row
        tl.store(to_row, tl.sum(g, 1), row_in)
        tl.store(to_row + batch * lane_blocks * rows, tl.sum(along_row, 1), row_in)
        to_lane = lane_partials + (sample * row_blocks + row_block) * lanes + lane
        tl.store(to_lane, tl.sum(g, 0), lane_in)
        tl.store(to_lane + batch * row_blocks * lanes, tl.sum(along_lane, 0), lane_in)


def _geometry(x: Tensor) -> tuple[bool, int, int, int, int]:
    """channels_last, rows, lanes and the tile: as wide as the lanes allow up to 256, about 2048 elements."""
    _, channels, height, width = x.shape
    last = _dispatch.memory_format(x) == torch.channels_last
    rows, lanes = (height * width, channels) if last else (channels, height * width)
    block_lanes = min(256, triton.next_power_of_2(lanes))
    return last, rows, lanes, min(triton.next_power_of_2(rows), 2048 // block_lanes), block_lanes


def flags(native: tuple[Any, ...]) -> dict[str, Any]:
    """What is there, for the compiler, from _epilogue.native_terms."""
    d, m, _, m_full, t, _, t_full, noise, _, strength, bias, _, _, clamp = native
    return {
        "HAS_D": d is not None,
        "HAS_SCALE": m is not None,
        "SCALE_FULL": m_full,
        "HAS_SHIFT": t is not None,
        "SHIFT_FULL": t_full,
        "HAS_NOISE": noise is not None,
        "HAS_STRENGTH": strength is not None,
        "HAS_BIAS": bias is not None,
        "CLAMP": clamp == clamp,
    }


def accumulator(dtype: torch.dtype) -> Any:
    """What the kernels compute in."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def forward(
    x: Tensor,
    scale_channel: Tensor | None,
    scale_map: Tensor | None,
    shift_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    bias: Tensor | None,
    activation: _epilogue.Activation,
    y: Tensor,
) -> None:
    """Write ``y``, which has the layout of ``x``."""
    native = _epilogue.native_terms(x, scale_channel, scale_map, shift_map, noise, noise_strength, bias, activation)
    d, m, m_stride, _, t, t_stride, _, noise, noise_stride, strength, bias, alpha, gain, clamp = native
    last, rows, lanes, block_rows, block_lanes = _geometry(x)
    row_blocks, lane_blocks = triton.cdiv(rows, block_rows), triton.cdiv(lanes, block_lanes)
    with _dispatch.device_of(x):
        _garfast_forward_kernel[(x.shape[0] * row_blocks * lane_blocks,)](
            *(x, y, d, m, t, noise, strength, bias, m_stride, t_stride, noise_stride),
            *(x.shape[1], rows, lanes, row_blocks, lane_blocks, alpha, gain, clamp),
            LAST=last,
            ACC=accumulator(x.dtype),
            BLOCK_ROWS=block_rows,
            BLOCK_LANES=block_lanes,
            **flags(native),
        )


def backward(
    grad_y: Tensor,
    y: Tensor,
    x: Tensor | None,
    scale_channel: Tensor | None,
    scale_map: Tensor | None,
    shift_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    bias: Tensor | None,
    activation: _epilogue.Activation,
    grad_x: Tensor | None,
    grad_scale: Tensor | None,
    grad_shift: Tensor | None,
    sums: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Write the element-wise gradients; return the sums [2, B, rows] and [2, B, lanes] if ``sums``."""
    native = _epilogue.native_terms(y, scale_channel, scale_map, shift_map, noise, noise_strength, bias, activation)
    d, m, m_stride, *_, alpha, gain, clamp = native
    last, rows, lanes, block_rows, block_lanes = _geometry(y)
    batch, row_blocks, lane_blocks = y.shape[0], triton.cdiv(rows, block_rows), triton.cdiv(lanes, block_lanes)
    row_partials = lane_partials = None
    if sums:
        exact = _dispatch.accumulator(y.dtype)
        row_partials = y.new_empty(2, batch, lane_blocks, rows, dtype=exact)
        lane_partials = y.new_empty(2, batch, row_blocks, lanes, dtype=exact)
    present = {k: v for k, v in flags(native).items() if k in ("HAS_D", "HAS_SCALE", "SCALE_FULL", "CLAMP")}
    with _dispatch.device_of(y):
        _garfast_backward_kernel[(batch * row_blocks * lane_blocks,)](
            *(grad_y, y, x, grad_x, grad_scale, grad_shift, row_partials, lane_partials, d, m, m_stride),
            *(y.shape[1], rows, lanes, row_blocks, lane_blocks, batch, alpha, gain, clamp),
            LAST=last,
            HAS_X=x is not None,
            NEED_X=grad_x is not None,
            NEED_SCALE=grad_scale is not None,
            NEED_SHIFT=grad_shift is not None,
            SUMS=sums,
            ACC=accumulator(y.dtype),
            BLOCK_ROWS=block_rows,
            BLOCK_LANES=block_lanes,
            **present,
        )
    if row_partials is None or lane_partials is None:
        return None, None
    return row_partials.sum(2), lane_partials.sum(2)
