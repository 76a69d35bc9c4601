"""A network that marks 68 facial landmarks, in both flavours of the jaw line, on the crop of a face."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.networks.blocks import ConvBlock, ResidualBlock

NUM_POINTS = 85
"""68 landmarks with the 3D-consistent jaw, then the 17 of the jaw on the visible outline."""
CROP = 1.4
"""Side of the crop that the network sees, over the longer side of the landmarks' box."""


@dataclass(frozen=True)
class LandmarkNetConfig:
    """Widths of :class:`LandmarkNet`.

    Attributes:
        size: side of the input crop in pixels that the weights were trained for; any multiple of 16 works.
        widths: channels at 1/2, 1/4, 1/8 and 1/16 of the input's resolution.
    """

    size: int = 96
    widths: tuple[int, int, int, int] = (24, 48, 96, 160)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LandmarkNetConfig:
        return cls(size=int(data["size"]), widths=tuple(int(w) for w in data["widths"]))  # type: ignore[arg-type]


class LandmarkOutput(NamedTuple):
    """What :class:`LandmarkNet` says about each crop.

    ``points`` [B, 85, 2]: x, y as fractions of the crop's width and height, (0, 0) its top left corner.
    ``spread`` [B, 85]: the expected distance of each point from the truth, as a fraction of the crop's side; no
    gradient reaches the image from it.
    ``face`` [B]: logit that the crop shows a face.
    ``heatmaps`` [B, 85, H/4, W/4]: logits over the cells of the crop, whose softmax the points are the mean of.
    """

    points: Tensor
    spread: Tensor
    face: Tensor
    heatmaps: Tensor


class LandmarkNet(nn.Module):
    """Heatmaps with a soft arg-max: an encoder to 1/16 of the resolution, a decoder back to 1/4.

    Each point is the mean of a spatial softmax, so it has sub-pixel precision and gradients reach the image (Sun et
    al., "Integral human pose regression", ECCV 2018). The expected error of each point is learnt beside it from the
    pooled deepest features and from how wide its heatmap is.
    """

    def __init__(self, config: LandmarkNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or LandmarkNetConfig()
        half, quarter, eighth, deepest = self.config.widths
        self.stem = ConvBlock(3, half, 5, 2)
        self.quarter = nn.Sequential(ConvBlock(half, quarter, 3, 2), ResidualBlock(quarter))
        self.eighth = nn.Sequential(ConvBlock(quarter, eighth, 3, 2), ResidualBlock(eighth), ResidualBlock(eighth))
        self.deepest = nn.Sequential(ConvBlock(eighth, deepest, 3, 2), ResidualBlock(deepest), ResidualBlock(deepest))
        self.to_eighth = nn.Conv2d(deepest, eighth, 1)
        self.up_eighth = ConvBlock(eighth, eighth)
        self.to_quarter = nn.Conv2d(eighth, quarter, 1)
        self.up_quarter = ConvBlock(quarter, quarter)
        self.heatmaps = nn.Conv2d(quarter, NUM_POINTS, 1)
        self.spread = nn.Linear(deepest + NUM_POINTS, NUM_POINTS)
        self.face = nn.Linear(2 * deepest, 1)
        nn.init.normal_(self.heatmaps.weight, std=0.05)
        nn.init.zeros_(self.spread.weight)
        nn.init.constant_(self.spread.bias, -3.0)

    def forward(self, crops: Tensor) -> LandmarkOutput:
        """Mark the landmarks of face crops.

        Args:
            crops: [B, 3, H, W] RGB in -1..1, H and W multiples of 16; the face's landmarks fill about 0.7 of the side.
        """
        quarter = self.quarter(self.stem(crops))
        eighth = self.eighth(quarter)
        deepest = self.deepest(eighth)
        eighth = self.up_eighth(eighth + _double(self.to_eighth(deepest)))
        quarter = self.up_quarter(quarter + _double(self.to_quarter(eighth)))
        heatmaps = self.heatmaps(quarter).float()
        deepest = deepest.float()
        pooled = deepest.mean((2, 3))
        with torch.autocast(crops.device.type, enabled=False):
            points, width = soft_argmax(heatmaps)
            # The spread describes the points and must not bend them.
            seen = torch.cat([pooled, (width + 1e-3).log()], 1).detach()
            spread = functional.softplus(self.spread(seen)) + 1e-4
            face = self.face(torch.cat([pooled, deepest.amax((2, 3))], 1))[:, 0]
        return LandmarkOutput(points, spread, face, heatmaps)


def soft_argmax(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean place and width of spatial softmaxes.

    Args:
        logits: [B, N, H, W] float32.

    Returns:
        [B, N, 2] x, y as fractions of the map, cell centres at (i + 0.5) / W, and [B, N] the standard deviation about
        that place, in the same unit.
    """
    height, width = logits.shape[-2:]
    weights = logits.flatten(2).softmax(-1).view_as(logits)
    x = (torch.arange(width, device=logits.device, dtype=logits.dtype) + 0.5) / width
    y = (torch.arange(height, device=logits.device, dtype=logits.dtype) + 0.5) / height
    columns, rows = weights.sum(-2), weights.sum(-1)
    mean_x, mean_y = columns @ x, rows @ y
    variance = columns @ x.square() - mean_x.square() + rows @ y.square() - mean_y.square()
    return torch.stack([mean_x, mean_y], -1), variance.clamp_min(1e-8).sqrt()


def find_landmarks(network: LandmarkNet, picture: Tensor, boxes: Tensor, size: int | None = None) -> Tensor:
    """Landmarks of faces of which it is known where they are; gradients reach the pictures.

    Args:
        network: the network.
        picture: [B, 3, S, S] in -1..1.
        boxes: [B, 4] boxes around the landmarks: left, top, right, bottom as fractions of the picture.
        size: side of the crops that the network sees, a multiple of 16; what it was trained for, if None.

    Returns:
        [B, 68, 2] fractions of the picture; the jaw's stay on the jaw.
    """
    size = size or network.config.size
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = CROP * (boxes[:, 2:] - boxes[:, :2]).amax(1)
    zero = torch.zeros_like(side)
    shift = 2 * centre - 1
    theta = torch.stack([side, zero, shift[:, 0], zero, side, shift[:, 1]], 1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, [len(picture), 3, size, size], align_corners=False)
    crops = functional.grid_sample(picture.float(), grid, padding_mode="border", align_corners=False)
    return centre[:, None] + (network(crops).points[:, :68] - 0.5) * side[:, None, None]


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
