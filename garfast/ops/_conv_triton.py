"""The Triton convolution of modulated_conv2d without up-sampling: which layers it takes, and in which tiles.

The kernel itself is garfast.ops.triton.convolution, imported only where Triton is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from garfast.ops._conv_mma import MULTIPROCESSORS


class Tile(NamedTuple):
    """What a program of the kernel makes."""

    pixels: int
    outputs: int
    inputs: int  # channels of x in a step of the sum
    warps: int
    stages: int

    @property
    def name(self) -> str:
        """How the tile is called among the measured paths."""
        return f"triton {self.pixels}x{self.outputs}"

    def programs(self, outputs: int, pixels: int) -> int:
        """How many cover one sample."""
        return -(-outputs // self.outputs) * -(-pixels // self.pixels)


# From large to small. A step of 32 channels is 64 bytes of a 16-bit row and 128 of a float32 one.
TILES = (Tile(128, 128, 32, 8, 3), Tile(128, 64, 32, 4, 3), Tile(64, 64, 32, 4, 4), Tile(16, 32, 64, 4, 4))


def why_not(x: Tensor, weight: Tensor, taps: Tensor | None) -> str:
    """Why the kernel cannot take this convolution of ``x``; '' if it can."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"it has no {x.dtype}"
    if taps is not None:
        return "it does not up-sample"
    _, channels, height, width = x.shape
    if max(channels, weight.shape[0]) * height * width >= 2**31 or weight.numel() >= 2**31:
        return "a sample or the weight has 2^31 elements or more"
    if sum((size - 1) * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True)) >= 2**31:
        return "a sample of x spans 2^31 elements of memory or more"
    # The largest tile takes 96 KiB of shared memory in float32.
    if x.is_cuda and torch.cuda.get_device_capability(x.device) < (8, 0):
        return "it needs compute capability 8.0"
    return ""


def choose_tile(batch: int, outputs: int, pixels: int) -> Tile:
    """The largest tile of which there are enough to fill a large GPU; the smallest if none has."""
    for tile in TILES[:-1]:
        if batch * tile.programs(outputs, pixels) >= MULTIPROCESSORS:
            return tile
    return TILES[-1]
