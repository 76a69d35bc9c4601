"""One styled convolution as one call: modulation, demodulation, convolution, up-sampling, and everything after it.

k' = style_bi k_oiuv,  d_bo = rsqrt(sum_iuv k'^2 + 1e-8)                        METHOD equation (1)
f  = d_bo * (k' convolved with x)             plain, or transposed by 2 and blurred       (3)
y  = clamp(act(scale_map f + shift_map + noise_strength noise + bias) gain)                (4)

The kernels never make k': the convolution runs with the shared k on x * style, and d is one small matrix product of
style^2 with the sums of k^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from garfast.errors import ArgumentError
from garfast.ops import _demodulation, _dispatch, _epilogue, _modulated_conv2d
from garfast.ops.upfirdn2d import upfirdn2d_reference

_OP = "modulated_conv2d"


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    *,
    scale_map: Tensor | None = None,
    shift_map: Tensor | None = None,
    noise: Tensor | None = None,
    noise_strength: Tensor | float | None = None,
    bias: Tensor | None = None,
    demodulate: bool = True,
    up: int = 1,
    resample_filter: Sequence[float] = (1, 3, 3, 1),
    activation: str = "lrelu",
    alpha: float = 0.2,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "auto",
) -> Tensor:
    """A StyleGAN2 convolution with the normal injection and its epilogue (METHOD section 1).

    Args:
        x: [B, I, H, W], float32, float16, bfloat16 or float64, any layout. Under autocast it is cast to autocast's
            dtype. float64 runs on 'reference' and 'cpu' and in CUDA.
        weight: [O, I, k, k] with k 1 or 3, shared by the batch; cast to the dtype of ``x``. Kept in channels_last it
            is not rearranged for the convolution at every call on the CPU.
        style: [B, I]; like the demodulation it stays in float32 beside a 16-bit ``x``.
        scale_map, shift_map, noise, noise_strength, bias, activation, alpha, gain, clamp: as in noise_bias_act, at the
            size of the result.
        demodulate: divide by the norm of every output channel's modulated weights; False for ToRGB.
        up: 1, or 2: transposed convolution by 2, then the blur ``resample_filter``, to exactly [2H, 2W].
        resample_filter: [n] numbers with n even, normalised to a sum of 1 in each direction.
        impl: 'auto', 'reference', 'cpu', 'cuda' or 'triton'.

    Returns:
        [B, O, up H, up W] in the dtype of ``x``. The layout is what the backend computes in: that of ``x`` or
        ``weight``, channels_last if either is, and channels_last where it is faster: for up-sampling 4096 pixels or
        more on the CPU, and in 16-bit formats on a GPU.

    Differentiable to any order with respect to every tensor but the filter. The kernels keep for the backward ``x``,
    ``weight``, ``style`` and the result, and the convolution's result only where ``style`` (through the demodulation)
    or ``scale_map`` needs a gradient; x * style is made again for the gradient of the weight, which is computed only
    where ``weight`` needs one.

    Raises:
        ArgumentError: an argument has the wrong type, shape, device or range.
        BackendUnavailableError: ``impl`` cannot run here.
    """
    _dispatch.check_tensor(_OP, "x", x, ["B", "I", "H", "W"])
    batch, channels, height, width = x.shape
    _dispatch.check_tensor(_OP, "weight", weight, ["O", channels, "k", "k"], like=x)
    if weight.shape[2:] not in ((1, 1), (3, 3)):
        raise ArgumentError(f"{_OP}: weight must have 1x1 or 3x3 taps, but has shape {list(weight.shape)}")
    if channels == 0:
        raise ArgumentError(f"{_OP}: x must have at least one channel, but has shape {list(x.shape)}")
    _dispatch.check_tensor(_OP, "style", style, [batch, channels], like=x)
    if up not in (1, 2):
        raise ArgumentError(f"{_OP}: up must be 1 or 2, not {up!r}")
    act = _epilogue.check_activation(_OP, activation, alpha, gain, clamp)
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        x = x.to(torch.get_autocast_dtype(x.device.type))
    size = (batch, weight.shape[0], height * up, width * up)
    terms = _epilogue.check_terms(_OP, x, size, scale_map, shift_map, noise, noise_strength, bias)
    exact = _dispatch.accumulator(x.dtype)
    taps = _filter(resample_filter, exact, x) if up == 2 else None
    backend = _dispatch.resolve(_OP, impl, x.device, has_triton=True)
    with _dispatch.without_autocast(x.device.type):
        style = _dispatch.as_dtype(style, exact)
        if backend == "reference":
            return modulated_conv2d_reference(x, weight, style, terms, act, demodulate, taps)
        d = None
        if demodulate:
            d = _demodulation.demodulation(weight, style, backend)
        # What the gradients of d and of the scale map will need.
        keep = _dispatch.differentiated(d, terms.scale_map)
        weight = _dispatch.as_dtype(weight, x.dtype)
        op = _dispatch.operator(_OP, x, weight, style, d, *terms)
        y, _ = op(x, weight, style, d, *terms, taps, *act, keep, backend)
        return y


def modulated_conv2d_reference(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    terms: _epilogue.Terms,
    activation: _epilogue.Activation,
    demodulate: bool,
    taps: Tensor | None,
) -> Tensor:
    """The equations in plain PyTorch: one group of the convolution per sample. ``taps`` None: no up-sampling."""
    batch, inputs, height, width = x.shape
    outputs, _, size, _ = weight.shape
    exact = style.dtype
    k = style[:, None, :, None, None] * weight.to(exact)
    if demodulate:
        k = k * torch.rsqrt(k.square().sum((2, 3, 4), keepdim=True) + _demodulation.EPS)
    # By way of one dimension: the strides of a single pixel may be anything, and PyTorch's gradient then fails on some.
    grouped = x.to(exact).reshape(-1).view(1, batch * inputs, height, width)
    if batch * height * width * outputs == 0:
        up = 1 if taps is None else 2
        f = (x.sum() + k.sum()) * x.new_zeros(batch, outputs, height * up, width * up)
    elif taps is None:
        f = F.conv2d(grouped, k.reshape(-1, inputs, size, size), padding=size // 2, groups=batch)
        f = f.view(batch, outputs, height, width)
    else:
        transposed = k.transpose(1, 2).reshape(batch * inputs, outputs, size, size)
        f = F.conv_transpose2d(grouped, transposed, stride=2, groups=batch)
        f = f.view(batch, outputs, *f.shape[2:])
        f = upfirdn2d_reference(f, taps, 1, 1, _modulated_conv2d.blur_padding(taps, size), False, 4.0)
    return _epilogue.reference(f, None, terms, activation).to(x.dtype)


def _filter(taps: Sequence[float], dtype: torch.dtype, like: Tensor) -> Tensor:
    """The blur's taps, of sum 1, on the device of ``like``.

    Raises:
        ArgumentError: they are not an even number of numbers with a positive sum.
    """
    try:
        values = tuple(float(tap) for tap in taps)
    except (TypeError, ValueError):
        values = ()
    if len(values) < 2 or len(values) % 2 or not 0 < sum(values) < math.inf:
        raise ArgumentError(f"{_OP}: resample_filter must be an even number of taps with a positive sum, not {taps!r}")
    normalised = tuple(value / sum(values) for value in values)
    if torch.compiler.is_compiling() or isinstance(like, FakeTensor):
        return torch.tensor(normalised, dtype=dtype, device=like.device)
    return _constant(normalised, dtype, like.device)


@lru_cache(maxsize=64)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept, since copying numbers to a GPU at every call is slow and cannot be captured in a CUDA graph."""
    with torch.inference_mode(False):  # a later call may want it for its backward
        return torch.tensor(values, dtype=dtype, device=device)
