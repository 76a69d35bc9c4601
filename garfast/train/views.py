"""Other views of an aligned picture: turned, mirrored, enlarged and shifted, with what is known of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from garfast.landmarks.detection import IBUG_FLIP
from garfast.train.augment import normal, uniform, warp


class ViewChange(NamedTuple):
    """How a batch of pictures [B, 3, S, S] is looked at otherwise; flips come first, about the picture's middle.

    ``angle`` [B] radians, by which what is seen turns clockwise. ``zoom`` [B], above 1 enlarges. ``shift`` [B, 2], by
    which the view's middle leaves the picture's, fractions of its side, x right and y down. ``mirrored`` [B] bool.
    """

    angle: Tensor
    zoom: Tensor
    shift: Tensor
    mirrored: Tensor

    def linear(self) -> Tensor:
        """[B, 2, 2] takes directions in the view (x right, y down, -1..1) to directions in the picture (-1..1)."""
        sign = torch.where(self.mirrored, -1.0, 1.0)
        cos, sin = self.angle.cos(), self.angle.sin()
        rows = [torch.stack([sign * cos, sign * sin], -1), torch.stack([-sin, cos], -1)]
        return torch.stack(rows, 1) / self.zoom[:, None, None]

    def pictures(self, images: Tensor, size: int) -> Tensor:
        """[B, C, S, S] -> [B, C, size, size], without aliasing where they shrink; 0 outside."""
        side = images.shape[-1]
        if size < side:
            side = size if size <= side // 2 else max(size, side * 3 // 4)
            images = functional.interpolate(images, size=(side, side), mode="area")
        return self._sample(images, size)

    def normals(self, maps: Tensor, size: int) -> Tensor:
        """Normal maps [B, 3, S, S] -> [B, 3, size, size], turned with the picture.

        They are blended between pixels, and so no longer of unit length.
        """
        maps = self._sample(maps, size)
        sign = torch.where(self.mirrored, -1.0, 1.0)[:, None, None]
        cos, sin = self.angle.cos()[:, None, None], self.angle.sin()[:, None, None]
        # The picture's y points down and the normals' up, hence the signs of the sine.
        x, y = sign * maps[:, 0], maps[:, 1]
        return torch.stack([cos * x + sin * y, cos * y - sin * x, maps[:, 2]], 1)

    def landmarks(self, points: Tensor) -> Tensor:
        """68 landmarks [B, 68, 2] in fractions of the picture -> fractions of the view, iBUG order again."""
        offset = points - 0.5 - self.shift[:, None]
        turned = (torch.linalg.inv(self.linear())[:, None] @ offset[..., None])[..., 0] + 0.5
        return torch.where(self.mirrored[:, None, None], turned[:, torch.tensor(IBUG_FLIP)], turned)

    def _sample(self, images: Tensor, size: int) -> Tensor:
        side = images.shape[-1]
        matrix = torch.cat([self.linear() / 2, 0.5 + self.shift[..., None]], 2) * side
        return warp(images, matrix, size)


def random_change(rng: torch.Generator, count: int) -> ViewChange:
    """Turned by up to some 20 degrees, a little larger or smaller, a little aside, every other one mirrored."""
    mirrored = torch.rand(count, generator=rng) < 0.5
    angle = torch.deg2rad(normal(rng, (count,), 8.0))
    zoom = (0.04 + normal(rng, (count,), 0.08)).exp()
    return ViewChange(angle, zoom, normal(rng, (count, 2), 0.03), mirrored)


def mix_colours(rng: torch.Generator, images: Tensor, amount: float = 0.08) -> Tensor:
    """Mix the channels of images [B, 3, H, W] in 0..1 a little: other skins, lamps and films."""
    mix = torch.eye(3) + uniform(rng, (len(images), 3, 3), -amount, amount)
    return torch.einsum("bij,bjhw->bihw", mix, images).clamp(0, 1)
