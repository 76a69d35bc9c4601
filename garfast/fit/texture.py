"""A texture for the fitted mesh, taken from the photograph.

Each texel knows its point on the mesh. Where the photograph shows that point its colour is taken; where only the point
at the mirrored place is visible (the other side of the face), that colour is taken with a smooth correction for the
light; what neither shows is continued smoothly within its island of the texture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.fit.complexion import COLOUR_REGIONS, expected, plausible
from garfast.fit.fill import Islands, texture_islands
from garfast.fit.rendering import Box, box_of_points, rasterize_crop
from garfast.morphable import Camera, MorphableModel
from garfast.ops import RasterOutput, rasterize_normals, vertex_normals

_SIZES = (512, 1024)  # one of which a texture takes by itself

# The cosine between normal and view direction below which the photograph is not used, and above which it is trusted.
_FACING = (0.20, 0.55)
# A point this much (mm) behind the nearest surface around it counts as hidden.
_DEPTH_TOLERANCE = 0.7
_VISIBILITY_PIXELS = 512
# Weights end this softly, in shares of the texture's side.
_FEATHER = 0.005
# From this distance to the mesh's outline on the photograph is trusted, in shares of the face's size: a fit that is a
# little too large there would show what is behind the face.
_OUTLINE = (0.004, 0.03)
# Nearer than this, in the same measure, colours are checked: hair and background look unlike the face.
_RIM = (0.04, 0.12)


class Unwrapping(NamedTuple):
    """Texture coordinates of a mesh: uv [U,2] (v up) and uv_triangles int32 [F,3]."""

    uv: Tensor
    uv_triangles: Tensor


def unwrap(model: MorphableModel) -> Unwrapping:
    """The model's texture coordinates, or, where it has none, a cylinder around the vertical axis of its mean face."""
    if model.uv.shape[0]:
        return Unwrapping(model.uv, model.uv_triangles)
    x, y, z = model.mean.unbind(-1)
    # The axis stands behind the face, so that the whole face lies in front of it and u grows from left to right.
    angle = torch.atan2(x - (x.amin() + x.amax()) / 2, z - z.amin() + 0.1 * (z.amax() - z.amin()))
    uv = torch.stack([angle, y], -1)
    low, high = uv.amin(0), uv.amax(0)
    return Unwrapping(0.01 + 0.98 * (uv - low) / (high - low), model.triangles)


@torch.no_grad()
def sample_texture(
    photo: np.ndarray, vertices: Tensor, model: MorphableModel, camera: Camera, *, size: int | None = None
) -> np.ndarray:
    """The texture of one face.

    Args:
        photo: uint8 [H,W,3], the photograph that ``camera`` belongs to.
        vertices: [V,3] the fitted mesh in camera space, mm.
        model: the mesh's topology, texture coordinates, mirror table and regions.
        camera: of a batch of 1.
        size: side of the square texture; None takes 512 where that holds all that the photograph shows, else 1024.

    Returns:
        uint8 [size,size,3]; row 0 is v = 1.
    """
    texels = _texels(model, _fitting_size(vertices, model, camera) if size is None else size)
    view = _PhotoView.of(photo, vertices, model, camera, texels)
    corners, regions = texels.corners, texels.regions
    colour, weight, rim = view.look_at(corners)
    weight = texels.feather(weight * plausible(regions, colour, weight, rim))
    prior, certainty = expected(regions, texels.inside, colour, weight)
    if model.mirror is not None:
        mirrored, mirrored_weight, rim = view.look_at(model.mirror[corners])
        mirrored_weight = texels.feather(mirrored_weight * plausible(regions, mirrored, mirrored_weight, rim))
        # Light differs between the sides. Its difference is known where both sides are seen, and continued smoothly.
        both = torch.minimum(weight, mirrored_weight)
        difference = texels.islands.fill(colour - mirrored, both)
        second = (1 - weight) * mirrored_weight
        total = weight + second
        colour = (weight * colour + second * (mirrored + difference)) / total.clamp_min(1e-6)
        weight = total
    # The prior is far weaker than anything seen: it shows where there is nothing else to go by.
    certain = torch.maximum(weight, certainty)
    colour = (weight * colour.clamp(0, 1) + (certain - weight) * prior) / certain.clamp_min(1e-12)
    padded = texels.islands.pad(texels.islands.fill(colour, certain))
    return (padded.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def _fitting_size(vertices: Tensor, model: MorphableModel, camera: Camera) -> int:
    """The smallest size at which texels are about as fine as the pixels in which the photograph shows the face."""
    around = box_of_points(camera.project(vertices[None])[0])
    fine = (size for size in _SIZES[:-1] if _pixels_per_texel(around.width * around.height, _texels(model, size)) <= 1)
    return next(fine, _SIZES[-1])


def _pixels_per_texel(pixels: float, texels: _Texels) -> float:
    """How much finer than a texture a photograph is that shows the mesh in so many pixels, as a ratio of lengths:
    roughly half of the texels face the camera and share them."""
    return float((pixels / max(len(texels.at) / 2, 1)) ** 0.5)


class _Texels:
    """What each texel of a model's texture shows.

    Attributes:
        size: side of the texture.
        corners: int64 [F,3], the triangles' corners.
        triangle: int64 [N], of the texels inside islands.
        weights: [N,3], their places in it.
        at: int64 [N], their indices into the flattened texture.
        islands: the texture's pieces.
        inside: [1,T,T], 1 inside islands, 0 outside.
    """

    def __init__(self, model: MorphableModel, size: int) -> None:
        uv, uv_triangles = unwrap(model)
        flat = torch.cat([uv, torch.zeros_like(uv[:, :1])], -1)[None]
        facing = torch.zeros_like(flat)
        facing[..., 2] = 1
        output = rasterize_normals(
            flat, uv_triangles, flat.new_tensor([2.0, 2.0, -1.0, -1.0]), size, normals=facing, cull_backfaces=False
        )
        assert isinstance(output, RasterOutput)
        ids = output.triangle_ids[0].long()
        self._model = model
        self.size = size
        self.corners = model.triangles.long()
        self.at = (ids.reshape(-1) >= 0).nonzero()[:, 0]
        self.triangle = ids.reshape(-1)[self.at]
        self.weights = output.barycentrics[0].reshape(3, -1)[:, self.at].T.contiguous()
        island = texture_islands(uv_triangles)
        self.islands = Islands(torch.where(ids >= 0, island[ids.clamp_min(0)], -1))
        self.inside = self.islands.inside.to(flat)[None]

    def points(self, attributes: Tensor, corners: Tensor) -> Tensor:
        """Interpolate attributes [V,C] with the triangles' corners [F,3]: [N,C]."""
        where = corners[self.triangle]
        total = attributes[where[:, 0]] * self.weights[:, :1]
        for k in (1, 2):
            total.addcmul_(attributes[where[:, k]], self.weights[:, k : k + 1])
        return total

    @cached_property
    def regions(self) -> dict[str, Tensor]:
        """The model's regions that matter for colours as images [1,T,T]."""
        model = self._model
        masks = {name: mask for name, mask in model.regions.items() if name in COLOUR_REGIONS}
        # The nape and the like, behind the ends of the jaw line, and what is above the brows: both fade over 2 cm. The
        # throat, below the chin.
        landmarks = model.landmarks(model.mean)
        masks["below"] = ((landmarks[8, 1] - model.mean[:, 1]) / 5).clamp(0, 1)
        masks["behind"] = ((landmarks[[0, 16], 2].mean() - model.mean[:, 2]) / 20).clamp(0, 1)
        masks["above"] = ((model.mean[:, 1] - landmarks[17:27, 1].mean()) / 20).clamp(0, 1)
        images = self.image(self.points(torch.stack(list(masks.values()), 1), self.corners).clamp(0, 1))
        return {name: images[k : k + 1] for k, name in enumerate(masks)}

    def image(self, values: Tensor) -> Tensor:
        """Values [N,C] of the texels as an image [C,T,T], 0 outside islands."""
        flat = values.new_zeros(self.size * self.size, values.shape[1])
        flat[self.at] = values
        return flat.T.reshape(-1, self.size, self.size)

    @property
    def _radius(self) -> int:
        """How far weights fade, in texels."""
        return max(round(_FEATHER * self.size), 1)

    @cached_property
    def _inside_around(self) -> Tensor:
        """The share [1,1,T,T] of the texels around each one that are inside islands."""
        return _separable(F.avg_pool2d, self.inside[None], self._radius).clamp_min(1e-6)

    def feather(self, weight: Tensor) -> Tensor:
        """Let weights [1,T,T] fade toward unseen texels instead of ending, without reaching beyond them."""
        inside = self.inside[None]
        # Outside an island counts as seen: the end of an island is no edge of visibility.
        eroded = 1 - _separable(F.max_pool2d, inside - weight[None] * inside, self._radius)
        mean = _separable(F.avg_pool2d, eroded * inside, self._radius) / self._inside_around
        # What is hardly trusted must not spread into what is unknown, so small weights become none.
        return smooth_step(torch.minimum(mean[0], weight), 0.15, 1.0) * self.inside


@lru_cache(maxsize=len(_SIZES))
def _texels(model: MorphableModel, size: int) -> _Texels:
    """Of one model in each size, for the photographs of a folder, which have them in common."""
    return _Texels(model, size)


def _separable(pool: Callable[..., Tensor], image: Tensor, radius: int) -> Tensor:
    """Pool over squares of side 2 ``radius`` + 1 by rows and columns, which for max and mean is the same but faster."""
    side = 2 * radius + 1
    return pool(pool(image, (1, side), 1, (0, radius)), (side, 1), 1, (radius, 0))


class _PhotoView(NamedTuple):
    """The photograph around the face, and which points of the mesh it shows."""

    texels: _Texels
    vertices: Tensor  # [V,3] camera space
    normals: Tensor  # [V,3]
    camera: Camera
    pixels: Tensor  # [1,3,h,w] the photograph in `box`, shrunk to about one pixel a texel
    box: Box  # of the face in the photograph
    nearest: Tensor  # [1,1,S,S] distance of the nearest surface around each pixel of the square around the face
    square: Box
    reach: float  # mm, how far around a pixel `nearest` looked
    inside: Tensor  # [1,1,S,S] distance from the face's outline in shares of the square, 0 outside

    @classmethod
    def of(
        cls, photo: np.ndarray, vertices: Tensor, model: MorphableModel, camera: Camera, texels: _Texels
    ) -> _PhotoView:
        projected = camera.project(vertices[None])[0]
        around = box_of_points(projected)
        square = around.square(0.02)
        output = rasterize_crop(vertices[None], model, camera, square, (_VISIBILITY_PIXELS, _VISIBILITY_PIXELS))
        distance = torch.where(output.mask > 0.5, output.depth, torch.inf)
        radius = 2
        nearest = -F.max_pool2d(-distance, 2 * radius + 1, 1, radius)
        spread = (vertices[:, :2].amax(0) - vertices[:, :2].amin(0)).max()
        millimetres = float(spread) / max(around.width, around.height)
        reach = (radius + 1) * millimetres * square.width / _VISIBILITY_PIXELS
        inside = _outline_distance(output.mask[0, 0] > 0.5).to(vertices)[None, None]
        pixels, box = _crop(photo, around, texels, vertices)
        normals = vertex_normals(vertices[None], model.triangles, adjacency=model.adjacency)[0]
        return cls(texels, vertices, normals, camera, pixels, box, nearest, square, reach, inside)

    def look_at(self, corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Colour [3,T,T], weight [1,T,T] and nearness to the outline [1,T,T], all in 0..1, of the mesh points with
        these triangle corners int64 [F,3]."""
        points, normals = self.texels.points(torch.cat([self.vertices, self.normals], 1), corners).split(3, 1)
        normals = normals * normals.square().sum(-1, keepdim=True).clamp_min(1e-12).rsqrt()
        if self.camera.projection == "orthographic":
            facing = normals[:, 2]
        else:
            facing = (normals * F.normalize(-points, dim=-1)).sum(-1)
        at = self.camera.project(points[None])[0]
        # A slanted surface is itself nearer within the reach of `nearest`.
        slope = ((1 - facing**2).clamp_min(0).sqrt() / facing.clamp_min(0.1)).clamp_max(5.0)
        nearest = _sample(self.nearest, at, self.square, "nearest")[:, 0]
        seen = -points[:, 2] <= nearest + _DEPTH_TOLERANCE + self.reach * slope
        height, width = self.camera.image_size
        border = torch.minimum(at, at.new_tensor([width, height]) - at).amin(-1)
        inside = _sample(self.inside, at, self.square, "bilinear")[:, 0]
        weight = smooth_step(facing, *_FACING) * smooth_step(inside, *_OUTLINE) * seen * (border > 1)
        rim = 1 - smooth_step(inside, *_RIM)
        colour = _sample(self.pixels, at, self.box, "bilinear")
        image = self.texels.image(torch.cat([colour, weight[:, None], rim[:, None]], 1))
        return image[:3], image[3:4], image[4:]


def smooth_step(value: Tensor, low: float, high: float) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = ((value - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


def _outline_distance(mask: Tensor) -> Tensor:
    """Distance [S,S] of the pixels of a face's mask [S,S] from its outline, in shares of S; openings of the mesh inside
    the outline do not count."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    filled = np.pad(binary_fill_holes(mask.cpu().numpy()), 1)
    return torch.from_numpy(distance_transform_edt(filled)[1:-1, 1:-1] / len(mask)).to(mask.device)


def _sample(image: Tensor, at: Tensor, box: Box, mode: str) -> Tensor:
    """Values [N,C] of an image [1,C,h,w] that shows ``box``, at photo pixels [N,2]."""
    low, span = at.new_tensor([box.x0, box.y0]), at.new_tensor([box.width, box.height])
    grid = ((at - low) / span * 2 - 1)[None, None]
    return F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)[0, :, 0].T


def _crop(photo: np.ndarray, around: Box, texels: _Texels, like: Tensor) -> tuple[Tensor, Box]:
    """The part of a photograph around a face [1,3,h,w] in 0..1, and where exactly it lies.

    A photograph finer than the texture is shrunk first: sampling it point by point would pick up its noise.
    """
    from PIL import Image

    height, width = photo.shape[:2]
    x0, x1 = max(int(around.x0) - 2, 0), min(int(around.x1) + 3, width)
    y0, y1 = max(int(around.y0) - 2, 0), min(int(around.y1) + 3, height)
    if x0 >= x1 or y0 >= y1:  # the face lies outside; any pixel does, for none is used
        x0, y0, x1, y1 = 0, 0, 1, 1
    part = photo[y0:y1, x0:x1]
    finer = _pixels_per_texel(part.shape[0] * part.shape[1], texels)
    if finer > 1.3:
        size = (max(round(part.shape[1] / finer), 1), max(round(part.shape[0] / finer), 1))
        part = np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize(size, Image.Resampling.BOX))
    pixels = torch.from_numpy(np.array(part)).to(like.device).permute(2, 0, 1)[None].to(like.dtype) / 255
    return pixels, Box(x0, y0, x1, y1)
