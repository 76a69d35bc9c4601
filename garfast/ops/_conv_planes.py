"""The CPU's float32 convolutions of modulated_conv2d as matrix products between native passes.

    3x3                 Winograd's F(2x2, 3x3): 16 products over tiles, 4 multiplications a pixel instead of 9
    3x3, few pixels     one product of the weight, as it lies in memory, with the nine shifted copies of x
    3x3, up-sampling    one product with every tap, then each to its place in the transposed convolution's result

The passes are those of csrc/include/garfast/conv_planes.h: the first multiplies by the style, Winograd's last one is
the epilogue too. They go through the image chunk by chunk so that what lies between them stays in cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from garfast.ops import _dispatch, _epilogue

# Up to this many pixels making Winograd's weights costs more than the multiplications it saves.
_FEW_PIXELS = 64
# What the planes before and after a product may take, and the fewest columns that keep the product fast.
_CHUNK_BYTES = 12 << 20
_CHUNK_COLUMNS = 192

_NO_TERMS: _epilogue.KernelTerms = (None,) * 6
_LINEAR = _epilogue.Activation(1.0, 1.0, float("nan"))


def why_not(x: Tensor, weight: Tensor) -> str:
    """Why these convolutions do not serve for ``x`` and ``weight`` on the CPU; '' if they do."""
    if x.dtype != torch.float32:
        return f"they have no {x.dtype}"
    if weight.shape[2:] != (3, 3):
        return "the weight is not 3x3"
    if torch.channels_last in (_dispatch.memory_format(x), _dispatch.memory_format(weight)):
        return "they read contiguous memory"
    return ""


class _Chunk(NamedTuple):
    """Some rows of tiles or pixels of some samples, as PlaneChunk in conv_planes.h."""

    sample: int
    samples: int
    row: int
    rows: int


def _chunks(batch: int, rows: int, per_row: int, bytes_per_column: int) -> Iterator[_Chunk]:
    """Chunks that cover ``batch`` x ``rows``: whole samples, or rows of one."""
    columns = max(_CHUNK_COLUMNS, _CHUNK_BYTES // bytes_per_column)
    if rows * per_row <= columns:
        step = columns // (rows * per_row)
        for sample in range(0, batch, step):
            yield _Chunk(sample, min(step, batch - sample), 0, rows)
        return
    count = -(-rows * per_row // columns)
    step = -(-rows // count)
    for sample in range(batch):
        for row in range(0, rows, step):
            yield _Chunk(sample, 1, row, min(step, rows - row))


def _call(function: str, like: Tensor, *args: object) -> None:
    _dispatch.call_native("cpu", function, like, *args)


def _weight_planes(weight: Tensor, winograd: bool) -> Tensor:
    outputs, inputs = weight.shape[:2]
    planes = weight.new_empty(16 if winograd else 9, outputs, inputs)
    _call("weight_planes", weight, weight, planes, outputs * inputs, winograd, False)
    return planes


def _few(x: Tensor) -> bool:
    return x.shape[0] * x.shape[2] * x.shape[3] <= _FEW_PIXELS


def _image(x: Tensor) -> tuple[int, int, int]:
    return x.shape[1], x.shape[2], x.shape[3]


def _tiles(x: Tensor) -> tuple[int, int]:
    """Rows of tiles, tiles per row."""
    return (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2


def _winograd_input(x: Tensor, style: Tensor | None, chunk: _Chunk, flip: bool) -> Tensor:
    tiles = x.new_empty(16, x.shape[1], chunk.samples * chunk.rows * _tiles(x)[1])
    _call("winograd_input", x, x, style, tiles, _image(x), tuple(chunk), flip)
    return tiles


# How taps lie in columns and image, see GatherTapsParams: tap_stride, channel_stride, taps, stride, pad. By channel
# and tap, as the weight does:
_SHIFTS = (1, 9, 3, 1, 1)


def _gather(x: Tensor, style: Tensor | None, chunk: _Chunk, width: int, strides: tuple[int, ...]) -> Tensor:
    """For every tap the pixels of x * style that it meets in ``chunk`` of the grid, ``width`` wide."""
    columns = x.new_empty(9, x.shape[1], chunk.samples * chunk.rows * width)
    _call("gather_taps", x, x, style, columns, _image(x), tuple(chunk), (width, *strides))
    return columns


def _modulated(x: Tensor, style: Tensor, chunk: _Chunk) -> Tensor:
    """x * style, [C, n]."""
    columns = x.new_empty(x.shape[1], chunk.samples * chunk.rows * x.shape[3])
    _call("gather_taps", x, x, style, columns, _image(x), tuple(chunk), (x.shape[3], x.shape[1], 1, 1, 1, 0))
    return columns


def _by_channel(g: Tensor) -> Tensor:
    """[B, C, H, W] as [C, B H W]."""
    return g.transpose(0, 1).reshape(g.shape[1], -1)


def convolve(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    terms: _epilogue.KernelTerms,
    activation: _epilogue.Activation,
    f: Tensor | None,
    y: Tensor,
) -> bool:
    """Write the convolution of x * style to ``f`` unless that is None, and its epilogue to ``y``.

    All are contiguous float32. Where there are few pixels the epilogue is left to the caller.

    Returns:
        Whether the epilogue was made; if not, the convolution is in ``y``.
    """
    batch, inputs, height, width = x.shape
    outputs = weight.shape[0]
    if _few(x):
        columns = _gather(x, style, _Chunk(0, batch, 0, height), width, _SHIFTS)
        weights, columns = weight.reshape(outputs, -1), columns.view(9 * inputs, -1)
        if batch == 1:
            torch.mm(weights, columns, out=y.view(outputs, -1))
        else:
            y.copy_(torch.mm(weights, columns).view(outputs, batch, height, width).transpose(0, 1))
        return False
    rows, per_row = _tiles(x)
    shape, native = _epilogue.native_shape(y, "cpu"), _epilogue.native_terms(y, *terms, activation)
    planes = _weight_planes(weight, True)
    for chunk in _chunks(batch, rows, per_row, 64 * (inputs + outputs)):
        product = torch.bmm(planes, _winograd_input(x, style, chunk, False))
        _call("winograd_output", x, product, f, y, shape, native, _image(y), tuple(chunk), False)
    return True


def convolve_transposed(x: Tensor, weight: Tensor, style: Tensor) -> Tensor:
    """The transposed convolution by 2 of x * style, [B, O, 2H + 1, 2W + 1]."""
    batch, inputs, height, width = x.shape
    outputs = weight.shape[0]
    z = x.new_empty(batch, outputs, 2 * height + 1, 2 * width + 1)
    planes = _weight_planes(weight, False).view(-1, inputs)
    for chunk in _chunks(batch, height, width, 4 * (inputs + 9 * outputs)):
        # The row before the chunk reaches into its first row of the result.
        above = min(chunk.row, 1)
        wider = _Chunk(chunk.sample, chunk.samples, chunk.row - above, chunk.rows + above)
        product, end = torch.mm(planes, _modulated(x, style, wider)), chunk.row + chunk.rows
        _call(
            *("scatter_taps", x, product, z, _image(z), tuple(wider), (width, outputs, 1, 3, 2, 0)),
            *(2 * chunk.row, 2 * end + (end == height)),
        )
    return z


def gradients(
    g: Tensor, x: Tensor, weight: Tensor, style: Tensor, up: bool, needs_input: bool, needs_weight: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of x * style and of the weight from that of the convolution, empty where not needed.

    Args:
        g: [B, O, H, W], or with ``up`` [B, O, 2H + 1, 2W + 1].
    """
    g, x, weight, style = (tensor.contiguous() for tensor in (g, x, weight, style))
    grad_input = torch.empty_like(x) if needs_input else x.new_empty(0)
    grad_weight = torch.empty_like(weight) if needs_weight else x.new_empty(0)
    into = grad_input if needs_input else None, grad_weight if needs_weight else None
    if up:
        _transposed_gradients(g, x, weight, style, *into)
    elif _few(x):
        _column_gradients(g, x, weight, style, *into)
    else:
        _winograd_gradients(g, x, weight, style, *into)
    return grad_input, grad_weight


def _column_gradients(
    g: Tensor, x: Tensor, weight: Tensor, style: Tensor, grad_input: Tensor | None, grad_weight: Tensor | None
) -> None:
    batch, inputs, height, width = x.shape
    outputs, chunk = len(weight), _Chunk(0, batch, 0, height)
    g = _by_channel(g)
    if grad_input is not None:
        columns = torch.mm(weight.view(outputs, -1).T, g)
        _call("scatter_taps", x, columns, grad_input, _image(x), tuple(chunk), (width, *_SHIFTS), 0, height)
    if grad_weight is not None:
        columns = _gather(x, style, chunk, width, _SHIFTS)
        torch.mm(g, columns.view(9 * inputs, -1).T, out=grad_weight.view(outputs, -1))


def _winograd_gradients(
    g: Tensor, x: Tensor, weight: Tensor, style: Tensor, grad_input: Tensor | None, grad_weight: Tensor | None
) -> None:
    batch, inputs = x.shape[:2]
    outputs = len(weight)
    rows, per_row = _tiles(x)
    chunks = list(_chunks(batch, rows, per_row, 64 * (inputs + outputs)))
    if grad_input is not None:
        # A convolution with the weight turned by 180 degrees, whose planes are those of U in another order.
        planes = _weight_planes(weight, True).transpose(1, 2)
        shape, native = _epilogue.native_shape(x, "cpu"), _epilogue.native_terms(x, *_NO_TERMS, _LINEAR)
        for chunk in chunks:
            product = torch.bmm(planes, _winograd_input(g, None, chunk, True))
            _call("winograd_output", x, product, grad_input, None, shape, native, _image(x), tuple(chunk), True)
    if grad_weight is not None:
        total = x.new_empty(16, outputs, inputs)
        for chunk in chunks:
            tiles = _winograd_input(x, style, chunk, False)
            grads = x.new_empty(16, outputs, tiles.shape[2])
            _call("winograd_output_adjoint", x, g, grads, _image(g), tuple(chunk))
            torch.baddbmm(total, grads, tiles.transpose(1, 2), beta=0 if chunk is chunks[0] else 1, out=total)
        _call("weight_planes", x, total, grad_weight, outputs * inputs, True, True)


def _transposed_gradients(
    g: Tensor, x: Tensor, weight: Tensor, style: Tensor, grad_input: Tensor | None, grad_weight: Tensor | None
) -> None:
    batch, inputs, height, width = x.shape
    outputs = len(weight)
    chunks = list(_chunks(batch, height, width, 4 * (inputs + 9 * outputs)))
    planes = None if grad_input is None else _weight_planes(weight, False).view(-1, inputs)
    total = x.new_empty(9 * outputs, inputs)
    for chunk in chunks:
        columns = _gather(g, None, chunk, width, (outputs, 1, 3, 2, 0)).view(9 * outputs, -1)
        if grad_input is not None and planes is not None:
            of_chunk = torch.mm(planes.T, columns).view(inputs, chunk.samples, chunk.rows, width).transpose(0, 1)
            samples, lines = slice(chunk.sample, chunk.sample + chunk.samples), slice(chunk.row, chunk.row + chunk.rows)
            grad_input[samples, :, lines] = of_chunk
        if grad_weight is not None:
            modulated = _modulated(x, style, chunk)
            torch.addmm(total, columns, modulated.T, beta=0 if chunk is chunks[0] else 1, out=total)
    if grad_weight is not None:
        _call("weight_planes", x, total, grad_weight, outputs * inputs, False, True)


def _fake_gradients(
    g: Tensor, x: Tensor, weight: Tensor, style: Tensor, up: bool, needs_input: bool, needs_weight: bool
) -> tuple[Tensor, Tensor]:
    grad_input = x.new_empty(x.shape) if needs_input else x.new_empty(0)
    return grad_input, weight.new_empty(weight.shape) if needs_weight else x.new_empty(0)


_dispatch.register(
    "conv_planes_gradients",
    "(Tensor g, Tensor x, Tensor weight, Tensor style, bool up, bool needs_input, bool needs_weight)"
    " -> (Tensor grad_input, Tensor grad_weight)",
    gradients,
    _fake_gradients,
    ("cpu",),
)
