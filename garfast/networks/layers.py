"""Style-modulated layers with an equalised learning rate (StyleGAN2, Karras et al., CVPR 2020), on garfast.ops.

Every module takes ``impl``, the backend of the operators it calls: 'auto', 'reference', 'cpu', 'cuda' or 'triton'.
Feature maps are [B, C, H, W]; styles ``w`` are [B, style_dim].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast import ops

BLUR = (1.0, 3.0, 3.0, 1.0)


class EqualLinear(nn.Module):
    """``act(x W^T * scale + b * lr_multiplier)`` with W kept at unit variance and scaled at run time.

    Args:
        bias_init: what the bias starts at (before ``lr_multiplier``); None for no bias.
        lr_multiplier: learning rate of this layer relative to the optimiser's.
        activation: 'linear' or 'lrelu' (slope 0.2, gain sqrt 2).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_init: float | None = 0.0,
        lr_multiplier: float = 1.0,
        activation: str = "linear",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = None if bias_init is None else nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.scale = lr_multiplier / math.sqrt(in_features)
        self.lr_multiplier = lr_multiplier
        self.activation = activation

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """x [..., in_features] -> [..., out_features], times ``gain`` before the activation."""
        # The factors go into the matrix product instead of passes over the weights.
        rows, weight = x.reshape(-1, x.shape[-1]), self.weight.to(x.dtype).T
        if self.bias is None:
            out = functional.linear(rows * (self.scale * gain), weight.T)
        else:
            bias = self.bias.to(x.dtype)
            out = torch.addmm(bias, rows, weight, alpha=self.scale * gain, beta=self.lr_multiplier * gain)
        out = out.view(*x.shape[:-1], -1)
        return functional.leaky_relu(out, 0.2) * math.sqrt(2) if self.activation == "lrelu" else out

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, lr_multiplier={self.lr_multiplier}, {self.activation}"


class EqualConv2d(nn.Module):
    """A plain convolution with an equalised learning rate, bias and activation, optionally blurring and halving.

    Args:
        down: 1, or 2: blur with the [1, 3, 3, 1] filter, then convolve with stride 2.
        activation: 'linear' or 'lrelu'.
        gain: multiplies the output, the activation's own sqrt 2 included when None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        down: int = 1,
        bias: bool = True,
        activation: str = "lrelu",
        gain: float | None = None,
        impl: str = "auto",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = 1 / math.sqrt(in_channels * kernel * kernel)
        self.padding = kernel // 2
        self.activation, self.gain, self.impl = activation, gain, impl
        self.blur = Blur(kernel, down, impl=impl) if down > 1 else None
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, H, W] -> [B, out, H / down, W / down]."""
        weight = (self.weight * self.scale).to(x.dtype)
        if self.blur is None:
            x = functional.conv2d(x, weight, padding=self.padding)
        else:
            x = functional.conv2d(self.blur(x), weight, stride=self.down)
        if self.bias is None and self.activation == "linear" and self.gain is None:
            return x
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return ops.noise_bias_act(x, bias=bias, activation=self.activation, gain=self.gain, impl=self.impl)

    def extra_repr(self) -> str:
        out, inner, kernel, _ = self.weight.shape
        return f"{inner}, {out}, kernel={kernel}, down={self.down}, {self.activation}"


class Blur(nn.Module):
    """The [1, 3, 3, 1] low-pass before a stride-``down`` convolution of size ``kernel``, padded for exact halving."""

    filter: Tensor

    def __init__(self, kernel: int, down: int = 2, taps: Sequence[float] = BLUR, *, impl: str = "auto") -> None:
        super().__init__()
        self.register_buffer("filter", torch.tensor(taps) / sum(taps), persistent=False)
        total = len(taps) - down + (kernel - 1)
        self.padding = ((total + 1) // 2, total // 2) * 2
        self.impl = impl

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W], blurred and padded so that the convolution that follows gives H / down."""
        return ops.upfirdn2d(x, self.filter, padding=self.padding, impl=self.impl)


class Upsample(nn.Module):
    """Up-sampling by two with the [1, 3, 3, 1] filter, as for the image skips."""

    filter: Tensor

    def __init__(self, taps: Sequence[float] = BLUR, *, impl: str = "auto") -> None:
        super().__init__()
        self.register_buffer("filter", torch.tensor(taps) / sum(taps), persistent=False)
        total = len(taps) - 2
        self.padding = ((total + 1) // 2 + 1, total // 2) * 2
        self.impl = impl

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, C, 2H, 2W], same mean."""
        return ops.upfirdn2d(x, self.filter, up=2, padding=self.padding, gain=4.0, impl=self.impl)


class StyledConv(nn.Module):
    """One layer of a Render Block: modulated convolution, normal injection, noise, bias and leaky ReLU in one call.

    Args:
        up: 1, or 2 to double the resolution.
        style_dim: length of ``w``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, style_dim: int, *, kernel: int = 3, up: int = 1, impl: str = "auto"
    ) -> None:
        super().__init__()
        self.affine = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.scale = 1 / math.sqrt(in_channels * kernel * kernel)
        self.up, self.impl = up, impl

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        *,
        scale_map: Tensor | None = None,
        shift_map: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Equations (1), (3) and (4) of the method, and the noise, bias and activation after them.

        Args:
            x: [B, in, H, W].
            w: [B, style_dim].
            scale_map, shift_map: m and t of the Normal Injection Module, [B, 1 or out, up H, up W].
            noise: [B or 1, 1, up H, up W].

        Returns:
            [B, out, up H, up W].
        """
        # The layer's scale goes into the style, which the matrix product makes for nothing.
        return ops.modulated_conv2d(
            x,
            self.weight,
            self.affine(w, self.scale),
            scale_map=scale_map,
            shift_map=shift_map,
            noise=noise,
            noise_strength=None if noise is None else self.noise_strength,
            bias=self.bias,
            up=self.up,
            activation="lrelu",
            impl=self.impl,
        )

    def extra_repr(self) -> str:
        out, inner, kernel, _ = self.weight.shape
        return f"{inner}, {out}, kernel={kernel}, up={self.up}"


class ToRGB(nn.Module):
    """A 1x1 modulated convolution without demodulation to image channels, added to the up-sampled image before it."""

    def __init__(self, in_channels: int, style_dim: int, *, channels: int = 3, impl: str = "auto") -> None:
        super().__init__()
        self.affine = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = 1 / math.sqrt(in_channels)
        self.upsample = Upsample(impl=impl)
        self.impl = impl

    def forward(self, x: Tensor, w: Tensor, image: Tensor | None = None) -> Tensor:
        """x [B, in, H, W], w [B, style_dim], image [B, channels, H / 2, W / 2] or None -> [B, channels, H, W]."""
        out = ops.modulated_conv2d(
            x,
            self.weight,
            self.affine(w, self.scale),
            bias=self.bias,
            demodulate=False,
            activation="linear",
            impl=self.impl,
        )
        return out if image is None else out + self.upsample(image)
