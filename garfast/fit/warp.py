"""How a photograph follows an edited face: a displacement of every pixel, and where only the texture can tell.

On the mesh, a pixel of the edited picture shows a point of the surface, and the photograph shows that point somewhere
else: there its colour is taken. Around the mesh (hair, background) the displacement continues as a harmonic function,
the smoothest there is, down to zero at some distance. What the photograph does not show comes from the texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from garfast.fit.rendering import Box, box_of_points, crop_ndc, shrink, textured
from garfast.fit.saved_face import Face
from garfast.fit.texture import smooth_step, unwrap
from garfast.ops import RasterOutput, rasterize_normals, vertex_normals

# The displacement ends this far from the head, in shares of its size.
_MARGIN = 0.45
# Side of the grid on which the displacement is continued around the head.
_GRID = 96
# Cosine between surface and view in the photograph from which on a point counts as seen, and as seen well.
_FACING = (0.12, 0.40)
# A point this much (mm) behind the nearest surface counts as hidden.
_DEPTH_TOLERANCE = 1.5
# Displacements smaller than this many pixels leave the photograph's own pixels.
_STILL = 0.02
# Parts of the mesh that do not draw the photograph along: a model's ears seldom lie where the photograph has them.
_LOOSE = ("neck", "ears")
# Toward the mesh's outline the continued displacement takes over, over this share of the picture: what lies there is
# as likely hair or background.
_RIM = 0.010
# Half the width, in the same measure, below which something hidden is left to the photograph.
_SLIVER = 0.006
_NOT_FACE = ("scalp", "ears", "neck")
# The texture stands in only for what looks forward in the head's own axes (cosine), or is inside mouth or lids: farther
# round it was hardly ever seen, and hair and neck of the photograph look better there.
_FORWARD = (0.10, 0.45)
_INNER = ("mouth_socket", "teeth", "tongue", "lips", "lids", "eyeballs")


@dataclass(frozen=True, eq=False)
class Warp:
    """A part of the photograph as the edited face draws it along.

    Attributes:
        x0, y0: where the part lies in the picture, pixels.
        colour: [3,h,w] 0..1, photograph and texture together.
        face: [1,h,w] 0..1, where the edited face is (without scalp, ears and neck, and what turns away under the jaw
            and at the temples), soft toward its rim.
        source: [h,w,2] where in the photograph each pixel comes from, photo pixels.
        hidden: [1,h,w] 0..1, where the photograph does not show what the edit shows and the texture stands in.
    """

    x0: int
    y0: int
    colour: Tensor
    face: Tensor
    source: Tensor
    hidden: Tensor


@torch.no_grad()
def warp_photo(
    photo: Tensor,
    before: Face,
    after: Face,
    texture: Tensor,
    *,
    covered_later: bool = False,
) -> Warp:
    """Draw a photograph along with an edit.

    Args:
        photo: [3,H,W] 0..1, of the size of the cameras' pictures.
        before, after: the face as fitted and as edited; of one model.
        texture: [3,T,T] 0..1, of the mesh.
        covered_later: the face will be drawn over, so that what lies around it starts exactly at the mesh's outline.
    """
    height, width = photo.shape[-2:]
    both = torch.cat([before.camera.project(before.vertices), after.camera.project(after.vertices)], 1)[0]
    window = box_of_points(both).square(_MARGIN)
    x0, y0 = max(int(window.x0), 0), max(int(window.y0), 0)
    x1, y1 = min(int(np.ceil(window.x1)), width), min(int(np.ceil(window.y1)), height)
    if x1 <= x0 or y1 <= y0:
        empty = photo[:, :0, :0]
        return Warp(0, 0, empty, empty[:1], empty.permute(1, 2, 0)[..., :2], empty[:1])
    around = _Field.of(before, after, window, (_GRID, _GRID), rim=not covered_later)
    smooth = torch.from_numpy(_harmonic(around.shift[0].numpy(), around.known[0, 0].numpy() > 0.5)).float()[None]

    part = Box(x0, y0, x1, y1)
    factor = 2 if max(x1 - x0, y1 - y0) <= 1200 else 1
    size = (factor * (y1 - y0), factor * (x1 - x0))
    field = _Field.of(before, after, part, size, rim=not covered_later)
    pixels = _centres(part, size)
    low, span = pixels.new_tensor([window.x0, window.y0]), pixels.new_tensor([window.width, window.height])
    grid = ((pixels - low) / span * 2 - 1)[None]
    continued = F.grid_sample(smooth, grid, mode="bilinear", padding_mode="border", align_corners=False)
    shift = torch.lerp(continued, field.shift, field.known)
    source = pixels + shift[0].permute(1, 2, 0)
    extent = source.new_tensor([width, height])
    drawn = F.grid_sample(photo[None], (source / extent * 2 - 1)[None], padding_mode="border", align_corners=False)

    uv, uv_triangles = unwrap(after.model)
    painted = textured(field.output, uv, uv_triangles, texture)
    drawn = torch.lerp(drawn, painted, field.hidden)
    moved = shift.abs().amax(1, keepdim=True) > _STILL
    still = shrink((~moved).to(drawn) * (1 - field.hidden), factor) > 0.999
    colour = torch.where(still, photo[None, :, y0:y1, x0:x1], shrink(drawn, factor))
    coarse = shrink(source.permute(2, 0, 1)[None], factor)[0].permute(1, 2, 0)
    return Warp(x0, y0, colour[0], shrink(field.face, factor)[0], coarse, shrink(field.hidden, factor)[0])


@dataclass(frozen=True, eq=False)
class _Field:
    """What the meshes say about each pixel of a box; [1,.,h,w].

    Attributes:
        output: the edited mesh.
        shift: [1,2,h,w] from the pixel to where the photograph shows its point; 0 where no mesh is.
        known: [1,1,h,w] 0..1, how well the photograph shows it.
        hidden: [1,1,h,w] 0..1, where the texture has to stand in.
        face: [1,1,h,w] 0..1, the face proper.
    """

    output: RasterOutput
    shift: Tensor
    known: Tensor
    hidden: Tensor
    face: Tensor

    @classmethod
    def of(cls, before: Face, after: Face, box: Box, size: tuple[int, int], *, rim: bool) -> _Field:
        model = after.model
        output = _raster(after, box, size)
        earlier = _raster(before, box, size)
        facing = _facing(before)
        proper = torch.ones(model.num_vertices)
        for name in _NOT_FACE:
            if name in model.regions:
                proper = torch.minimum(proper, 1 - model.regions[name])
        loose = torch.zeros(model.num_vertices)
        for name in _LOOSE:
            if name in model.regions:
                loose = torch.maximum(loose, model.regions[name])
        values = [
            before.camera.project(before.vertices)[0],
            -before.vertices[0, :, 2:],
            facing[:, None],
            proper[:, None],
            loose[:, None],
            _forward(after)[:, None],
        ]
        found = _interpolate(torch.cat(values, 1), model.triangles, output)
        place, depth, facing_map, proper_map, loose_map, forward = found.split([2, 1, 1, 1, 1, 1], 1)
        covered = (output.mask > 0.5).to(place)
        pixels = _centres(box, size)
        shift = (place - pixels.permute(2, 0, 1)[None]) * covered

        low, span = pixels.new_tensor([box.x0, box.y0]), pixels.new_tensor([box.width, box.height])
        grid = (place[0].permute(1, 2, 0) - low) / span * 2 - 1
        nearest = torch.where(earlier.mask > 0.5, earlier.depth, torch.inf)
        nearest = -F.max_pool2d(-nearest, 3, 1, 1)
        nearest = F.grid_sample(nearest, grid[None], mode="nearest", padding_mode="border", align_corners=False)
        pixel = _millimetres(before) * box.width / size[1]
        slope = ((1 - facing_map.square()).clamp_min(0).sqrt() / facing_map.clamp_min(0.1)).clamp_max(5.0)
        inside = (grid.abs().amax(-1) < 1)[None, None]
        seen = (depth <= nearest + _DEPTH_TOLERANCE + 2 * pixel * slope) & inside
        known = covered * seen * smooth_step(facing_map, *_FACING)
        face = covered * proper_map.clamp(0, 1) * forward.clamp(0, 1)
        moved = smooth_step(shift.abs().amax(1, keepdim=True), _STILL, 0.5)
        hidden = _without_slivers((1 - known) * covered, size) * moved * forward.clamp(0, 1) * _drawn_in(face, size)
        known = known * (1 - loose_map.clamp(0, 1))
        return cls(output, shift, known * _drawn_in(covered, size, _RIM) if rim else known, hidden, face)


def _interpolate(values: Tensor, triangles: Tensor, output: RasterOutput) -> Tensor:
    """Values [V,C] of the vertices at the pixels [1,C,h,w]; unlike `interpolate`, only where there is a mesh."""
    ids = output.triangle_ids.flatten().long()
    at = (ids >= 0).nonzero()[:, 0]
    weights = output.barycentrics[0].flatten(1)[:, at]
    corners = triangles[ids[at]].long()
    flat = values.new_zeros(len(ids), values.shape[1])
    flat[at] = sum((values[corners[:, k]] * weights[k, :, None] for k in range(3)), start=values.new_zeros(()))
    return flat.T.reshape(1, -1, *output.triangle_ids.shape[1:])


def _raster(face: Face, box: Box, size: tuple[int, int]) -> RasterOutput:
    model = face.model
    normals = vertex_normals(face.vertices, model.triangles, adjacency=model.adjacency)
    output = rasterize_normals(
        face.vertices,
        model.triangles,
        crop_ndc(face.camera, box),
        size,
        projection=face.camera.projection,
        normals=normals,
        adjacency=model.adjacency,
    )
    assert isinstance(output, RasterOutput)
    return output


def _facing(face: Face) -> Tensor:
    """[V] cosine between normal and direction to the camera."""
    normals = vertex_normals(face.vertices, face.model.triangles, adjacency=face.model.adjacency)[0]
    if face.camera.projection == "orthographic":
        return normals[:, 2]
    return (normals * F.normalize(-face.vertices[0], dim=-1)).sum(-1)


def _forward(face: Face) -> Tensor:
    """[V] 0..1, how well the texture of a vertex can stand in for a photograph."""
    model = face.model
    normals = vertex_normals(model.evaluate(face.shape), model.triangles, adjacency=model.adjacency)[0]
    weight = smooth_step(normals[:, 2], *_FORWARD)
    for name in _INNER:
        if name in model.regions:
            weight = torch.maximum(weight, model.regions[name])
    return weight


def _millimetres(face: Face) -> float:
    """Of a photo pixel, roughly."""
    spread = face.vertices[0, :, 0].max() - face.vertices[0, :, 0].min()
    pixels = face.camera.project(face.vertices)[0, :, 0]
    return float(spread / (pixels.max() - pixels.min()).clamp_min(1e-6))


def _drawn_in(face: Tensor, size: tuple[int, int], share: float = 0.004) -> Tensor:
    """A mask, soft toward the inside of its rim, over a share of the picture."""
    radius = max(round(share * max(size)), 1)
    around = F.avg_pool2d(face, 2 * radius + 1, 1, radius, count_include_pad=False)
    return torch.minimum(face, (2 * around - 1).clamp_min(0))


def _without_slivers(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask without what is too thin to matter: between closed lips and lids, a pixel decides what is hidden."""
    side = 2 * max(round(_SLIVER * max(size)), 1) + 1
    eroded = -F.max_pool2d(-mask, side, 1, side // 2)
    return torch.minimum(mask, F.max_pool2d(eroded, side, 1, side // 2))


def _centres(box: Box, size: tuple[int, int]) -> Tensor:
    """Photo pixels [h,w,2] of the pixel centres of a picture of a box."""
    x = box.x0 + (torch.arange(size[1]) + 0.5) * (box.width / size[1])
    y = box.y0 + (torch.arange(size[0]) + 0.5) * (box.height / size[0])
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def _harmonic(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Continue values [C,h,w] from where they are known [h,w] by Laplace's equation, to 0 at the border."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.linalg import splu

    result = np.where(known, values, 0.0)
    free = ~known
    free[[0, -1]], free[:, [0, -1]] = False, False
    result[:, ~known & ~free] = 0.0
    rows, columns = np.nonzero(free)
    if not len(rows):
        return result
    number = np.full(free.shape, -1)
    number[free] = np.arange(len(rows))
    right = np.zeros((len(rows), len(values)))
    entries = [(np.arange(len(rows)), np.arange(len(rows)), np.full(len(rows), 4.0))]
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        neighbour = number[rows + dy, columns + dx]
        inner = neighbour >= 0
        entries.append((np.nonzero(inner)[0], neighbour[inner], np.full(inner.sum(), -1.0)))
        right[~inner] += result[:, rows[~inner] + dy, columns[~inner] + dx].T
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    matrix = coo_matrix((value, (row, column)), shape=(len(rows), len(rows))).tocsc()
    result[:, free] = splu(matrix).solve(right).T
    return result
