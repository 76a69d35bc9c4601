"""N: photograph -> normal map, the network behind the normal consistency loss (equation 6). A small U-Net."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.errors import ArgumentError
from garfast.networks.blocks import ConvBlock, ResidualBlock

FACE = 1e-3
"""Pixels of a normal map whose squared normal is longer than this belong to the face (equation 6)."""


@dataclass(frozen=True)
class NormalEstimatorConfig:
    """Everything that defines a NormalEstimator's shape.

    Attributes:
        widths: channels at 1/2, 1/4, ... of the input's resolution.
        depth: residual blocks at the coarsest scale.
        fine_depth: residual blocks at each finer scale on the way up, beside the one that joins both ways.
        size: side of the pictures the weights were trained for, pixels; others are resized on the way in and their
            maps on the way out. 0 takes every picture as it is.
    """

    widths: tuple[int, ...] = (48, 64, 96, 128)
    depth: int = 3
    fine_depth: int = 0
    size: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NormalEstimatorConfig:
        return cls(
            widths=tuple(int(w) for w in data["widths"]),
            depth=int(data["depth"]),
            fine_depth=int(data.get("fine_depth", 0)),
            size=int(data.get("size", 0)),
        )


class NormalEstimate(NamedTuple):
    """What :class:`NormalEstimator` returns."""

    normals: Tensor  # [B, 3, H, W], camera space, unit length everywhere
    mask_logits: Tensor  # [B, 1, H, W], positive where a face covers the pixel


class NormalEstimator(nn.Module):
    """N(image). Any size where the configuration names one, else sides that are multiples of ``2 ** len(widths)``.

    Nothing is computed at the full resolution: 2x2 pixels become channels on the way in and are laid out again on the
    way out, which costs a quarter of a U-Net of the same widths.
    """

    def __init__(self, config: NormalEstimatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NormalEstimatorConfig()
        widths = config.widths
        self.stem = ConvBlock(12, widths[0])
        self.encoders = nn.ModuleList(ResidualBlock(w) for w in widths[:-1])
        self.downs = nn.ModuleList(ConvBlock(a, b, 3, 2) for a, b in itertools.pairwise(widths))
        self.bottom = _residual_blocks(widths[-1], config.depth)
        self.ups = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(widths))
        self.decoders = nn.ModuleList(ResidualBlock(w) for w in widths[:-1])
        self.refiners = nn.ModuleList(_residual_blocks(w, config.fine_depth) for w in widths[:-1])
        self.head = nn.Conv2d(widths[0], 16, 3, padding=1)

    def forward(self, image: Tensor) -> NormalEstimate:
        """image [B, 3, H, W], RGB in -1..1.

        Raises:
            ArgumentError: a side is no multiple of ``2 ** len(widths)`` and the configuration names no size.
        """
        size = self.config.size
        if size and image.dim() == 4 and image.shape[2:] != (size, size):
            found = self(_resized(image, (size, size)))
            normals = _resized(found.normals, image.shape[2:])
            return NormalEstimate(
                functional.normalize(normals, dim=1, eps=1e-6), _resized(found.mask_logits, image.shape[2:])
            )
        step = 1 << len(self.config.widths)
        if image.dim() != 4 or image.shape[1] != 3 or image.shape[2] % step or image.shape[3] % step:
            raise ArgumentError(
                f"NormalEstimator: image must have shape [B, 3, H, W] with sides divisible by {step}, "
                f"not {list(image.shape)}"
            )
        x = self.stem(functional.pixel_unshuffle(image, 2))
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for k in reversed(range(len(skips))):
            x = self.decoders[k](skips[k] + functional.interpolate(self.ups[k](x), scale_factor=2, mode="nearest"))
            x = self.refiners[k](x)
        out = functional.pixel_shuffle(self.head(x), 2).float()
        return NormalEstimate(functional.normalize(out[:, :3], dim=1, eps=1e-6), out[:, 3:])


def _residual_blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def estimate_both_sides(estimator: Callable[[Tensor], NormalEstimate], image: Tensor) -> NormalEstimate:
    """The average of what N says of pictures and of their mirror images: twice the work, 3% less error.

    Args:
        estimator: a :class:`NormalEstimator` or what can take its place.
        image: [B, 3, H, W], RGB in -1..1.
    """
    found = estimator(torch.cat([image, image.flip(3)]))
    normals, mirrored = found.normals.chunk(2)
    mask_logits, mirrored_logits = found.mask_logits.chunk(2)
    return NormalEstimate(
        functional.normalize(normals + mirror_normals(mirrored), dim=1, eps=1e-6),
        0.5 * (mask_logits + mirrored_logits.flip(3)),
    )


def angles_between(estimate: Tensor, normals: Tensor) -> Tensor:
    """[N] degrees between estimated and true unit normals [B, 3, H, W] on the face's pixels."""
    face = normals.square().sum(1) > FACE
    cosine = functional.cosine_similarity(estimate.float(), normals.float(), dim=1)[face]
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))


def mirror_normals(normals: Tensor) -> Tensor:
    """The normal maps [B, 3, H, W] of mirrored pictures."""
    return normals.flip(3) * normals.new_tensor([-1, 1, 1])[:, None, None]


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)
