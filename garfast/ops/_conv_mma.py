"""The CUDA tensor-core convolution: modulated_conv2d's forward in one launch.

y = clamp(act(d m conv(s x, w) + t + strength noise + bias) gain)

The kernel works on channels_last memory: a weight or an x in another layout is copied into it first, so networks that
use it keep both channels_last. The result has the layout of x either way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.ops import _dispatch, _epilogue, _native

# MmaTile of modulated_conv2d_mma.h: number, and the output pixels x channels of a block.
_TILES = {"same": (0, 8, 16, 128), "narrow": (1, 8, 16, 64), "1x1": (2, 8, 16, 64), "up": (3, 12, 28, 32)}
_TILES["up-large"] = (4, 28, 28, 32)
_POSITIONS = {"up": 8 * 16, "up-large": 16 * 16}
_LARGE_SHARED_BYTES = 128 * 1024


def why_not(x: Tensor, kernel: int, up: int) -> str:
    """Why the kernel cannot take this convolution of ``x``; '' if it can."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"it has no {x.dtype}"
    if (kernel, up) not in ((1, 1), (3, 1), (3, 2)):
        return f"it has no {kernel}x{kernel} convolution with up={up}"
    if not _native.CUDA_ON_HOST and torch.cuda.get_device_capability(x.device) < (8, 0):
        return "it needs compute capability 8.0"
    return ""


def tile_name(device: torch.device, kernel: int, up: int, out_channels: int, height: int, width: int) -> str:
    """The tile for a convolution of maps of ``height`` x ``width``: the one that computes least outside of them."""
    if up == 1:
        return "1x1" if kernel == 1 else "narrow" if out_channels % 128 in range(1, 65) else "same"
    work = {}
    for name, positions in _POSITIONS.items():
        _, rows, columns, _ = _TILES[name]
        work[name] = -(-2 * height // rows) * -(-2 * width // columns) * positions
    small = not _native.CUDA_ON_HOST and _shared_bytes(device) < _LARGE_SHARED_BYTES
    return "up" if small or work["up"] <= work["up-large"] else "up-large"


def _shared_bytes(device: torch.device) -> int:
    """How much shared memory a block may ask for."""
    properties = torch.cuda.get_device_properties(device)
    return getattr(properties, "shared_memory_per_block_optin", 0)


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
    tile: str | None = None,
) -> Tensor:
    """Run the kernel; everything must have been checked, and ``why_not`` must be ''.

    Args:
        x: [B, C, H, W], float32 (multiplied as tf32), float16 or bfloat16.
        weight: [O, C, 3, 3] or [O, C, 1, 1], the dtype of x; correlated with x, or for up=2 the weight of the
            transposed convolution: u[2i + a, 2j + b] += weight[:, :, a, b] x[i, j].
        style: s, [B, C] float32, or None for 1; s x is rounded to the dtype of x.
        scale_channel: d, [B, O] float32, or None for 1.
        terms, activation: the epilogue at [B, O, up H, up W].
        blur: for up=2, float32 [4], the taps of the FIR along rows and columns, correlated with u padded by 1.
        tile: a key of _TILES; chosen by the shape when None.

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
    name = tile or tile_name(x.device, kernel, up, out_channels, height, width)
    _dispatch.call_native(
        "cuda",
        f"modulated_conv2d_mma_{_dispatch.dtype_suffix(x.dtype)}",
        x,
        (batch, x.shape[1], out_channels, height, width, layout == torch.channels_last),
        _epilogue.native_terms(y, scale_channel, *terms, activation),
        *(x, weight, style, blur, y, _TILES[name][0]),
    )
    return y


def _aligned_channels_last(x: Tensor) -> Tensor:
    return _aligned(x.contiguous(memory_format=torch.channels_last))


def _aligned(x: Tensor) -> Tensor:
    """``x`` itself where its memory starts at a multiple of 16 bytes, as all but views into larger tensors does."""
    return x if x.data_ptr() % 16 == 0 else x.clone()
