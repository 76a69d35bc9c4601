"""The CUDA tensor-core convolution: modulated_conv2d's forward in one launch.

y = clamp(act(d m conv(s x, w) + t + strength noise + bias) gain)

The kernel reads channels_last memory: a weight or an x in another layout is copied into it first, so networks that use
it keep both channels_last. It writes either layout.
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
MULTIPROCESSORS = 132
"""Of an H100 or H200, for which tiles are chosen."""


def why_not(x: Tensor, weight: Tensor, taps: Tensor | None) -> str:
    """Why the kernel cannot take this convolution of ``x``, up-sampled if there are ``taps``; '' if it can."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"it has no {x.dtype}"
    if x.dtype == torch.float32 and not _dispatch.tf32_allowed():
        return "torch.backends.cudnn does not allow tf32"
    kernel, up = weight.shape[2], 1 if taps is None else 2
    if (kernel, up) not in ((1, 1), (3, 1), (3, 2)):
        return f"it has no {kernel}x{kernel} convolution with up={up}"
    if taps is not None and taps.shape != (4,):
        return f"it blurs with 4 taps, not {len(taps)}"
    _, channels, height, width = x.shape
    channels += _missing_channels(x)
    if max(channels, weight.shape[0] * up * up) * height * width >= 2**31 or weight.numel() >= 2**31:
        return "a sample or the weight has 2^31 elements or more"
    # What was compiled for an older one has no tensor-core code in it.
    if not _native.CUDA_ON_HOST and not _native.built_for(x.device, oldest=80):
        return "it needs compute capability 8.0, and a build for it"
    return ""


def _missing_channels(x: Tensor) -> int:
    """The kernel reads 16 bytes of channels at a time."""
    return -x.shape[1] % (16 // x.element_size())


def tiles_in_order(
    kernel: int, up: int, out_channels: int, height: int, width: int, large: bool = True, batch: int = 1
) -> list[Tile]:
    """The tiles that can make a layer of maps x of ``height`` x ``width``, the one first that should be done first: few
    blocks leave most of a GPU idle.

    Args:
        large: whether a block may have 126 KiB of shared memory.
    """
    if kernel == 1:
        return [TILES["1x1"]]
    names = ("same", "narrow") if up == 1 else ("up", "up-large") if large else ("up",)

    def work(tile: Tile) -> int:
        blocks = batch * tile.blocks(out_channels, up * height, up * width)
        return max(blocks, MULTIPROCESSORS) * tile.positions * tile.channels

    return sorted((TILES[name] for name in names), key=work)


def tiles_of(x: Tensor, weight: Tensor, taps: Tensor | None) -> list[Tile]:
    """The tiles that can make a layer on the GPU of ``x``, as `tiles_in_order`."""
    batch, _, height, width = x.shape
    up, large = 1 if taps is None else 2, _has_large_shared(x.device)
    return tiles_in_order(weight.shape[2], up, weight.shape[0], height, width, large, batch)


def _has_large_shared(device: torch.device) -> bool:
    if _native.CUDA_ON_HOST:
        return True
    properties = torch.cuda.get_device_properties(device)
    return getattr(properties, "shared_memory_per_block_optin", 0) >= _LARGE_SHARED_BYTES


def forward(
    x: Tensor,
    weight: Tensor,
    style: Tensor | None,
    taps: Tensor | None,
    terms: _epilogue.KernelTerms,
    activation: _epilogue.Activation,
    f: Tensor | None,
    y: Tensor,
    tile: Tile | None = None,
) -> None:
    """Run the kernel; everything must have been checked, and ``why_not`` must be ''.

    Args:
        x: [B, C, H, W], float32 (multiplied as tf32), float16 or bfloat16.
        weight: [O, C, 3, 3] or [O, C, 1, 1], the dtype of x; correlated with x, or for up=2 the weight of the
            transposed convolution: u[2i + a, 2j + b] += weight[:, :, a, b] x[i, j].
        style: s, [B, C] float32, or None for 1; s x is rounded to the dtype of x.
        taps: for up=2, float32 [4]: the FIR along rows and columns, with a gain of 2 in each direction.
        terms: d [B, O] float32, then the epilogue's, at [B, O, up H, up W]; each may be None.
        f: [B, O, up H, up W] in the layout of y, takes conv(s x, w); or None.
        y: [B, O, up H, up W], contiguous or channels_last, takes the result.
        tile: the first of `tiles_of` when None.
    """
    if y.numel() == 0:
        return
    batch, _, height, width = x.shape
    if missing := _missing_channels(x):
        x, weight = F.pad(x, (0, 0, 0, 0, 0, missing)), F.pad(weight, (0, 0, 0, 0, 0, missing))
        style = None if style is None else F.pad(style, (0, missing))
    x, weight = _aligned_channels_last(x), _aligned_channels_last(weight)
    style = None if style is None else _aligned(style.contiguous())
    if tile is None:
        tile = tiles_of(x, weight, taps)[0]
    _dispatch.call_native(
        "cuda",
        f"modulated_conv2d_mma_{_dispatch.dtype_suffix(x.dtype)}",
        x,
        (batch, x.shape[1], weight.shape[0], height, width, _dispatch.memory_format(y) == torch.channels_last),
        _epilogue.native_terms(y, *terms, activation),
        *(x, weight, style, taps, 2.0, f, y, tile.number),
    )


def _aligned_channels_last(x: Tensor) -> Tensor:
    return _aligned(x.contiguous(memory_format=torch.channels_last))


def _aligned(x: Tensor) -> Tensor:
    """``x`` itself where its memory starts at a multiple of 16 bytes, as all but views into larger tensors does."""
    return x if x.data_ptr() % 16 == 0 else x.clone()
