"""What noise_bias_act and modulated_conv2d share: y = clamp(act(x d m + t + strength noise + bias) gain).

Checks of the terms, the reference, and the arguments of the native kernels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.ops import _dispatch

ACTIVATIONS = ("linear", "relu", "lrelu")
_SQRT2 = math.sqrt(2)


Maybe: TypeAlias = "Tensor | None"
# scale_channel, scale_map, shift_map, noise, noise_strength, bias: what the kernels take.
KernelTerms: TypeAlias = tuple[Maybe, Maybe, Maybe, Maybe, Maybe, Maybe]


class Activation(NamedTuple):
    """Leaky ReLU with slope ``alpha`` (1: linear, 0: ReLU), times ``gain``, clamped to [-clamp, clamp] (NaN: not)."""

    alpha: float
    gain: float
    clamp: float


class Terms(NamedTuple):
    """The terms in the shapes and dtypes that the kernels take."""

    scale_map: Tensor | None  # [B, 1 or C, H, W], dtype of x
    shift_map: Tensor | None  # [B, 1 or C, H, W], dtype of x
    noise: Tensor | None  # [B, 1, H, W], dtype of x
    noise_strength: Tensor | None  # [], accumulator dtype
    bias: Tensor | None  # [C], accumulator dtype


def check_activation(op: str, activation: Any, alpha: float, gain: float | None, clamp: float | None) -> Activation:
    """The numbers behind the arguments; gain None is sqrt(2) after a ReLU, which keeps the variance, else 1.

    Raises:
        ArgumentError: one of them is out of range.
    """
    if activation not in ACTIVATIONS:
        raise ArgumentError(f"{op}: activation must be one of {', '.join(ACTIVATIONS)}, not {activation!r}")
    for name, value in (("alpha", alpha), ("gain", gain), ("clamp", clamp)):
        if value is not None or name == "alpha":
            _dispatch.check_number(op, name, value)
    if not 0 <= alpha < math.inf:
        raise ArgumentError(f"{op}: alpha must be finite and not negative, but is {alpha}")
    if gain is not None and not 0 < gain < math.inf:
        raise ArgumentError(f"{op}: gain must be finite and positive, but is {gain}")
    if clamp is not None and not clamp > 0:
        raise ArgumentError(f"{op}: clamp must be positive or None, but is {clamp}")
    slope = float(alpha) if activation == "lrelu" else 1.0 if activation == "linear" else 0.0
    if gain is None:
        gain = 1.0 if activation == "linear" else _SQRT2
    return Activation(slope, float(gain), math.nan if clamp is None else float(clamp))


def is_per_element(value: Tensor | None) -> bool:
    """Whether a map [B, C, H, W] has a value for every channel instead of one for all. None at all are every one's."""
    return value is not None and value.shape[1] != 1


def check_terms(
    op: str,
    like: Tensor,
    shape: tuple[int, int, int, int],
    scale_map: Tensor | None,
    shift_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | float | None,
    bias: Tensor | None,
) -> Terms:
    """The terms of an epilogue on a tensor of ``shape`` [B, C, H, W] with the dtype and device of ``like``.

    Raises:
        ArgumentError: one of them has the wrong type, shape or device.
    """
    batch, channels, height, width = shape
    dtype, exact = like.dtype, _dispatch.accumulator(like.dtype)

    def map_like(name: str, value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        free = isinstance(value, Tensor) and value.dim() == 4
        b = 1 if free and value.shape[0] == 1 else batch
        c = channels if free and value.shape[1] == channels else 1
        _dispatch.check_tensor(op, name, value, (b, c, height, width), like=like)
        return _dispatch.expanded(_dispatch.as_dtype(value, dtype), (batch, c, height, width))

    scale_map, shift_map = map_like("scale_map", scale_map), map_like("shift_map", shift_map)
    if noise is not None:
        if isinstance(noise, Tensor) and noise.dim() == 2:
            _dispatch.check_tensor(op, "noise", noise, (height, width), like=like)
        else:
            b = 1 if isinstance(noise, Tensor) and noise.dim() == 4 and noise.shape[0] == 1 else batch
            _dispatch.check_tensor(op, "noise", noise, (b, 1, height, width), like=like)
        noise = _dispatch.expanded(_dispatch.as_dtype(noise, dtype), (batch, 1, height, width))
    if noise is None:
        noise_strength = None
    elif isinstance(noise_strength, Tensor):
        _dispatch.check_tensor(op, "noise_strength", noise_strength, [1] if noise_strength.dim() else [], like=like)
        noise_strength = _dispatch.as_dtype(noise_strength, exact)
        noise_strength = noise_strength.reshape(()) if noise_strength.dim() else noise_strength
    elif noise_strength is not None:
        if not isinstance(noise_strength, (int, float)):
            kind = type(noise_strength).__name__
            raise ArgumentError(f"{op}: noise_strength must be a number or a tensor of shape [], not {kind}")
        noise_strength = torch.full((), float(noise_strength), dtype=exact, device=like.device)
    if bias is not None:
        _dispatch.check_tensor(op, "bias", bias, (channels,), like=like)
        bias = _dispatch.as_dtype(bias, exact)
    return Terms(scale_map, shift_map, noise, noise_strength, bias)


def reference(x: Tensor, scale_channel: Tensor | None, terms: Terms, activation: Activation) -> Tensor:
    """The equation in plain PyTorch, computed in the accumulator dtype and rounded once."""
    exact = _dispatch.accumulator(x.dtype)
    v = x.to(exact)
    if scale_channel is not None:
        v = v * scale_channel[:, :, None, None]
    if terms.scale_map is not None:
        v = v * terms.scale_map.to(exact)
    if terms.shift_map is not None:
        v = v + terms.shift_map.to(exact)
    if terms.noise is not None:
        noise = terms.noise.to(exact)
        v = v + (noise if terms.noise_strength is None else terms.noise_strength * noise)
    if terms.bias is not None:
        v = v + terms.bias[:, None, None]
    if activation.alpha != 1:
        v = F.leaky_relu(v, activation.alpha)
    if activation.gain != 1:
        v = v * activation.gain
    if not math.isnan(activation.clamp):
        v = v.clamp(-activation.clamp, activation.clamp)
    return v.to(x.dtype)


def native_clamp(clamp: float, dtype: torch.dtype) -> float:
    """The clamp as ``dtype`` holds it: the backward finds clamped elements by comparing y with it."""
    if dtype in (torch.float16, torch.bfloat16) and not math.isnan(clamp):
        return torch.tensor(clamp, dtype=torch.float64).to(dtype).item()
    return clamp


def native_shape(x: Tensor, impl: str) -> tuple[int, int, int, bool, int, int]:
    """Sizes, layout and block sizes of a kernel over ``x``, see EpilogueShape in noise_bias_act.h."""
    batch, channels, height, width = x.shape
    last = _dispatch.memory_format(x) == torch.channels_last
    rows, lanes = (height * width, channels) if last else (channels, height * width)
    if impl == "cpu":
        lane_block = max(1, min(lanes, 1024))
        row_block = max(1, min(rows, 32768 // lane_block))
    else:
        # 128 threads own 4 lanes each, or 1, side by side and below one another, and walk down the rows: far enough to
        # make few partial sums, not so far that there are fewer than about 500 blocks.
        lane_block = 128 if lanes % 4 or lanes <= 128 else 256 if lanes <= 256 else 512
        row_block = max(1, min(64, rows, batch * rows * -(-lanes // lane_block) // 512))
    return batch, channels, height * width, last, row_block, lane_block


def native_terms(
    x: Tensor,
    scale_channel: Tensor | None,
    scale_map: Tensor | None,
    shift_map: Tensor | None,
    noise: Tensor | None,
    noise_strength: Tensor | None,
    bias: Tensor | None,
    activation: Activation,
) -> tuple[Any, ...]:
    """The terms as the native kernels take them, see EpilogueTerms in noise_bias_act.h."""
    layout = _dispatch.memory_format(x)

    def dense(value: Tensor | None) -> tuple[Tensor | None, int, bool]:
        if value is None:
            return None, 0, False
        batch, channels, height, width = value.shape
        per_element = is_per_element(value)
        shared = batch > 1 and value.stride(0) == 0
        value = value[:1] if shared else value
        value = value.contiguous(memory_format=layout if per_element else torch.contiguous_format)
        return value, 0 if shared else channels * height * width, per_element

    return (
        None if scale_channel is None else scale_channel.contiguous(),
        *dense(scale_map),
        *dense(shift_map),
        *dense(noise)[:2],
        noise_strength,
        None if bias is None else bias.contiguous(),
        activation.alpha,
        activation.gain,
        native_clamp(activation.clamp, x.dtype),
    )
