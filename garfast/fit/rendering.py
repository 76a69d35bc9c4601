"""Pictures of a fitted mesh as arrays: crops of a camera, shading, textured views. Plain tools without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.morphable import Camera, MorphableModel, euler_to_matrix
from garfast.ops import RasterOutput, interpolate, rasterize_normals, vertex_normals

# Direction toward the light (camera space), strength. A warm-neutral key from upper left, a weak fill from the right.
_LIGHTS = (((-0.45, 0.55, 0.70), 0.62), ((0.75, 0.10, 0.55), 0.22), ((0.0, -0.6, 0.5), 0.06))
_AMBIENT = 0.27
_GRAZING = 0.35  # how far a smooth normal may point away (-z) on a surface that is seen from the front
CLAY = (232, 221, 210)


class Box(NamedTuple):
    """A rectangle in photo pixels; it may reach outside the photograph."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Pixels."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Pixels."""
        return self.y1 - self.y0

    def square(self, margin: float = 0.0) -> Box:
        """The square around the same centre that holds the box, larger by ``margin`` times its side on each side."""
        half = max(self.width, self.height) * (0.5 + margin)
        x, y = (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2
        return Box(x - half, y - half, x + half, y + half)


def box_of_points(pixels: Tensor) -> Box:
    """The smallest box around points [N,2] in photo pixels."""
    (x0, y0), (x1, y1) = pixels.amin(0).tolist(), pixels.amax(0).tolist()
    return Box(x0, y0, x1, y1)


def crop_ndc(camera: Camera, box: Box) -> Tensor:
    """[B,4] camera parameters for ``rasterize_normals`` that show only ``box`` of the camera's photograph.

    Both cameras map to NDC by a scale and an offset in each axis, so a crop is another scale and offset.
    """
    height, width = camera.image_size
    sx, sy, tx, ty = camera.ndc().unbind(-1)
    kx, ky = width / box.width, height / box.height
    return torch.stack(
        [
            sx * kx,
            sy * ky,
            tx * kx + (width - 2 * box.x0) / box.width - 1,
            ty * ky + 1 - (height - 2 * box.y0) / box.height,
        ],
        -1,
    )


def rasterize_crop(
    vertices: Tensor, model: MorphableModel, camera: Camera, box: Box, resolution: tuple[int, int]
) -> RasterOutput:
    """Rasterise one face [1,V,3] (camera space) as ``box`` of the photograph at (height, width) ``resolution``."""
    normals = vertex_normals(vertices, model.triangles, adjacency=model.adjacency)
    output = rasterize_normals(
        vertices,
        model.triangles,
        crop_ndc(camera, box),
        resolution,
        projection=camera.projection,
        normals=normals,
        adjacency=model.adjacency,
        cull_backfaces=False,
    )
    assert isinstance(output, RasterOutput)
    return output


def shade(normals: Tensor, colour: Tensor) -> Tensor:
    """Soft studio light on a matt surface with a slight gloss.

    Args:
        normals: [B,3,H,W] unit normals in camera space.
        colour: [B,3,H,W] or broadcastable, surface colour 0..1.

    Returns:
        [B,3,H,W] in 0..1.
    """
    # Surfaces seen from behind (the inside of an open mesh) are lit as seen from the front, and darker. Those whose
    # smooth normals only just turn away, along outlines and lids, are seen from the front nevertheless.
    behind = normals[:, 2:] < -_GRAZING
    seen = torch.cat([normals[:, :2], normals[:, 2:].clamp_min(0)], 1)
    facing = torch.where(behind, -normals, F.normalize(seen, dim=1))
    light = torch.full_like(normals[:, :1], _AMBIENT)
    gloss = torch.zeros_like(light)
    for direction, strength in _LIGHTS:
        towards = F.normalize(normals.new_tensor(direction), dim=0).view(1, 3, 1, 1)
        # Wrapped diffuse light: falls off softly past the terminator, as skin does.
        cosine = ((facing * towards).sum(1, keepdim=True) + 0.25) / 1.25
        light = light + strength * cosine.clamp_min(0) ** 1.3
        half = F.normalize(towards + normals.new_tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1), dim=1)
        gloss = gloss + 0.10 * strength * (facing * half).sum(1, keepdim=True).clamp_min(0) ** 24
    result = colour * light + gloss
    return torch.where(behind, 0.45 * result, result).clamp(0, 1)


def clay(normals: Tensor) -> Tensor:
    """The shaded untextured surface [B,3,H,W], 0..1."""
    return shade(normals, normals.new_tensor(CLAY).view(1, 3, 1, 1) / 255)


def textured(output: RasterOutput, uv: Tensor, uv_triangles: Tensor, texture: Tensor) -> Tensor:
    """Look up a texture [3,T,T] (0..1, v up) at every pixel of a rasterised mesh: [B,3,H,W], unlit."""
    at = interpolate(uv, uv_triangles, output)
    grid = torch.stack([at[:, 0] * 2 - 1, 1 - at[:, 1] * 2], -1)
    image = texture[None].expand(len(at), -1, -1, -1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def turntable_ndc(vertices: Tensor, yaws: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Upright views of a face in model space [V,3] turned by ``yaws`` (degrees, positive to image right).

    Returns:
        Turned vertices [len(yaws),V,3] around the middle of the face, and one orthographic camera [len(yaws),4] under
        which each of them fits into a square picture at the same scale.
    """
    centre = (vertices.amin(0) + vertices.amax(0)) / 2
    angles = torch.deg2rad(torch.tensor(list(yaws), dtype=vertices.dtype, device=vertices.device))
    zero = torch.zeros_like(angles)
    turned = (vertices - centre) @ euler_to_matrix(angles, zero, zero).transpose(1, 2)
    reach = turned[..., :2].abs().amax()
    # Each view is centred on its own width, else a profile view sits at one side of the picture.
    middle = (turned[..., 0].amin(1) + turned[..., 0].amax(1)) / 2
    scale = (0.94 / reach).expand(len(angles))
    return turned, torch.stack([scale, scale, -scale * middle, torch.zeros_like(scale)], -1)


def shrink(image: Tensor, factor: int) -> Tensor:
    """Average blocks of ``factor`` x ``factor`` pixels: the anti-aliasing of a picture rendered larger."""
    return F.avg_pool2d(image, factor) if factor > 1 else image
