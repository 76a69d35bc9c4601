"""A small fully convolutional network that finds faces of one octave of sizes; a pyramid of images finds all sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from garfast.networks.blocks import ConvBlock, ResidualBlock

STRIDE = 8
"""Pixels between neighbouring cells of the output."""


@dataclass(frozen=True)
class FaceFinderConfig:
    """Widths of :class:`FaceFinder`.

    Attributes:
        widths: channels at 1/2, 1/4 and 1/8 of the resolution.
        smallest, largest: sides, in pixels, of the boxes around the landmarks of the faces that the weights were
            trained to find; larger faces are found in a smaller copy of the picture.
    """

    widths: tuple[int, int, int] = (16, 32, 64)
    smallest: float = 14.0
    largest: float = 56.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FaceFinderConfig:
        return cls(
            widths=tuple(int(w) for w in data["widths"]),  # type: ignore[arg-type]
            smallest=float(data["smallest"]),
            largest=float(data["largest"]),
        )


class FinderOutput(NamedTuple):
    """Maps over the cells of the picture, [B, H/8, W/8] each.

    ``score``: logit that a face's box has its middle in the cell. ``offset`` [B, 2, H/8, W/8]: x and y from the
    cell's middle to the box's middle, pixels. ``side``: the longer side of the box, pixels.
    """

    score: Tensor
    offset: Tensor
    side: Tensor


class FaceFinder(nn.Module):
    """Centre heatmap with offset and size (Zhou et al., "Objects as points", 2019), one output resolution."""

    def __init__(self, config: FaceFinderConfig | None = None) -> None:
        super().__init__()
        self.config = config or FaceFinderConfig()
        half, quarter, eighth = self.config.widths
        self.body = nn.Sequential(
            ConvBlock(3, half, 3, 2),
            ConvBlock(half, quarter, 3, 2),
            ResidualBlock(quarter),
            ConvBlock(quarter, eighth, 3, 2),
            ResidualBlock(eighth),
            ResidualBlock(eighth),
        )
        # Dilation: a cell must see a whole face of the largest size and some of what surrounds it.
        self.context = nn.Sequential(
            nn.Conv2d(eighth, eighth, 3, 1, 2, dilation=2, bias=False),
            nn.BatchNorm2d(eighth),
            nn.ReLU(inplace=True),
            ConvBlock(eighth, eighth),
        )
        self.head = nn.Conv2d(eighth, 4, 1)
        nn.init.zeros_(self.head.weight)
        bias = torch.zeros(4)
        bias[0] = -4.5  # faces are rare
        self.head.bias = nn.Parameter(bias)

    def forward(self, images: Tensor) -> FinderOutput:
        """Look at pictures.

        Args:
            images: [B, 3, H, W] RGB in -1..1, H and W multiples of 8.
        """
        features = self.body(images)
        out = self.head(features + self.context(features)).float()
        middle = (self.config.smallest * self.config.largest) ** 0.5
        side = middle * out[:, 3].clamp(-3, 3).exp()
        return FinderOutput(out[:, 0], out[:, 1:3] * STRIDE, side)
