"""The CUDA tensor-core convolution: modulated_conv2d's forward in one launch.

y = clamp(act(d m conv(s x, w) + t + strength noise + bias) gain)

The kernel works on channels_last memory: a weight or an x in another layout is copied into it first, so networks that
use it keep both channels_last. The result has the layout of x either way.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.ops import _dispatch, _epilogue, _native


class Tile(NamedTuple):
    """What a block of the kernel makes, see MmaTile in modulated_conv2d_mma.h."""

    name: str
    number: int
    rows: int  # of the output
    columns: int
    channels: int
    positions: int  # pixels of x that it computes for, those outside of its output included

    def blocks(self, out_channels: int, out_height: int, out_width: int) -> int:
        """How many cover one sample."""
        return -(-out_channels // self.channels) * -(-out_height // self.rows) * -(-out_width // self.columns)


TILES = {
    tile.name: tile
    for tile in (
        Tile("same", 0, 8, 16, 128, 128),
        Tile("narrow", 1, 8, 16, 64, 128),
        Tile("1x1", 2, 8, 16, 64, 128),
        Tile("up", 3, 10, 32, 32, 128),
        Tile("up-large", 4, 24, 32, 32, 256),
    )
}
_LARGE_SHARED_BYTES = 126 * 1024


def why_not(x: Tensor, out_channels: int, kernel: int, up: int) -> str:
    """Why the kernel cannot take this convolution of ``x``; '' if it can."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"it has no {x.dtype}"
    if (kernel, up) not in ((1, 1), (3, 1), (3, 2)):
        return f"it has no {kernel}x{kernel} convolution with up={up}"
    _, channels, height, width = x.shape
    if max(channels * height * width, out_channels * up * up * height * width, 9 * out_channels * channels) >= 2**31:
        return "a sample or the weight has 2^31 elements or more"
    if not _native.CUDA_ON_HOST and torch.cuda.get_device_capability(x.device) < (8, 0):
        return "it needs compute capability 8.0"
    return ""


def choose_tile(kernel: int, up: int, out_channels: int, height: int, width: int, large: bool = True) -> Tile:
    """The tile for maps x of ``height`` x ``width`` that computes least beside the output.

    Args:
        large: whether a block may have 126 KiB of shared memory.
    """
    if kernel == 1:
        return TILES["1x1"]
    names = ("same", "narrow") if up == 1 else ("up", "up-large") if large else ("up",)

    def work(tile: Tile) -> int:
        return tile.blocks(out_channels, up * height, up * width) * tile.positions * tile.channels

    return min((TILES[name] for name in names), key=work)


def _has_large_shared(device: torch.device) -> bool:
    if _native.CUDA_ON_HOST:
        return True
    properties = torch.cuda.get_device_properties(device)
    return getattr(properties, "shared_memory_per_block_optin", 0) >= _LARGE_SHARED_BYTES


def forward(
    x: Tensor,
    weight: Tensor,
    style: Tensor | None,
    scale_channel: Tensor | None,
    terms: _epilogue.Terms,
    activation: _epilogue.Activation,
    *,
    up: int = 1,
    blur: Tensor | None = None,
    blur_gain: float = 1.0,
    tile: Tile | None = None,
) -> Tensor:
    """Run the kernel; everything must have been checked, and ``why_not`` must be ''.

    Args:
        x: [B, C, H, W], float32 (multiplied as tf32), float16 or bfloat16.
        weight: [O, C, 3, 3] or [O, C, 1, 1], the dtype of x; correlated with x, or for up=2 the weight of the
            transposed convolution: u[2i + a, 2j + b] += weight[:, :, a, b] x[i, j].
        style: s, [B, C] float32, or None for 1; s x is rounded to the dtype of x.
        scale_channel: d, [B, O] float32, or None for 1.
        terms, activation: the epilogue at [B, O, up H, up W].
        blur: for up=2, float32 [4], the taps of the FIR along rows and columns, convolved with u padded by 1.
        blur_gain: factor of the taps in each direction.
        tile: chosen by the shape when None.

    Returns:
        [B, O, up H, up W] in the dtype and layout of x.
    """
    batch, channels, height, width = x.shape
    out_channels, _, kernel, _ = weight.shape
    layout = _dispatch.memory_format(x)
    size = (batch, out_channels, up * height, up * width)
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)
    if y.numel() == 0:
        return y
    if missing := -channels % (16 // x.element_size()):
        x, weight = F.pad(x, (0, 0, 0, 0, 0, missing)), F.pad(weight, (0, 0, 0, 0, 0, missing))
        style = None if style is None else F.pad(style, (0, missing))
    x, weight = _aligned_channels_last(x), _aligned_channels_last(weight)
    style = None if style is None else _aligned(style.contiguous())
    if tile is None:
        tile = choose_tile(kernel, up, out_channels, height, width, _has_large_shared(x.device))
    _dispatch.call_native(
        "cuda",
        f"modulated_conv2d_mma_{_dispatch.dtype_suffix(x.dtype)}",
        x,
        (batch, x.shape[1], out_channels, height, width, layout == torch.channels_last),
        _epilogue.native_terms(y, scale_channel, *terms, activation),
        *(x, weight, style, blur, blur_gain, y, tile.number),
    )
    return y


def _aligned_channels_last(x: Tensor) -> Tensor:
    return _aligned(x.contiguous(memory_format=torch.channels_last))


def _aligned(x: Tensor) -> Tensor:
    """``x`` itself where its memory starts at a multiple of 16 bytes, as all but views into larger tensors does."""
    return x if x.data_ptr() % 16 == 0 else x.clone()
