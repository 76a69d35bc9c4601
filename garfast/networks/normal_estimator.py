"""N: photograph -> normal map, the network behind the normal consistency loss (equation 6). A U-Net."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.errors import ArgumentError


@dataclass(frozen=True)
class NormalEstimatorConfig:
    """Everything that defines a NormalEstimator's shape."""

    widths: tuple[int, ...] = (32, 64, 96, 128, 160)  # channels per scale; each scale halves the resolution
    groups: int = 8  # of the group normalisation


class NormalEstimate(NamedTuple):
    """What :class:`NormalEstimator` returns."""

    normals: Tensor  # [B, 3, H, W], camera space, unit length everywhere
    mask_logits: Tensor  # [B, 1, H, W], positive where a face covers the pixel


class _Block(nn.Module):
    """Two normalised convolutions beside a skip."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(min(groups, in_channels), in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(min(groups, out_channels), out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(functional.silu(self.norm2(h)))


class NormalEstimator(nn.Module):
    """N(image). Any size whose sides are multiples of 2^(len(widths) - 1)."""

    def __init__(self, config: NormalEstimatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NormalEstimatorConfig()
        widths = config.widths
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_Block(w, w, config.groups) for w in widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in itertools.pairwise(widths))
        self.ups = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(widths))
        self.decoders = nn.ModuleList(_Block(2 * a, a, config.groups) for a in widths[:-1])
        self.head = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, image: Tensor) -> NormalEstimate:
        """image [B, 3, H, W], RGB in -1..1.

        Raises:
            ArgumentError: a side is no multiple of 2^(scales - 1).
        """
        step = 1 << len(self.downs)
        if image.dim() != 4 or image.shape[1] != 3 or image.shape[2] % step or image.shape[3] % step:
            raise ArgumentError(
                f"NormalEstimator: image must have shape [B, 3, H, W] with sides divisible by {step}, "
                f"not {list(image.shape)}"
            )
        x = self.stem(image)
        skips = []
        for k, encoder in enumerate(self.encoders):
            x = encoder(x)
            if k < len(self.downs):
                skips.append(x)
                x = self.downs[k](x)
        for k in reversed(range(len(self.downs))):
            x = functional.interpolate(self.ups[k](x), scale_factor=2, mode="nearest")
            x = self.decoders[k](torch.cat([x, skips[k]], 1))
        out = self.head(functional.silu(x)).float()
        return NormalEstimate(functional.normalize(out[:, :3], dim=1, eps=1e-6), out[:, 3:])
