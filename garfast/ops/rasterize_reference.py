"""The equations of ``rasterize_normals`` in plain PyTorch: the fragments of every triangle's box, then the nearest.

The arithmetic of coverage and depth is the kernels', operation for operation, so both see the same triangles.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_SCREEN_LIMIT = 1e5
_DEPTH_LIMIT = 1e15
# Fragments in memory at once.
_CHUNK = 1 << 21


class Screen(NamedTuple):
    """Projected vertices, [B, V] each; x and y are NaN where a vertex cannot be drawn."""

    x: Tensor
    y: Tensor
    depth: Tensor
    inverse_w: Tensor


class Corners(NamedTuple):
    """Corners of triangles at one level, [..., 3] each: pixel coordinates, depth and 1 / w."""

    u: Tensor
    v: Tensor
    depth: Tensor
    inverse_w: Tensor


def rasterize_normals_reference(
    vertices: Tensor,
    triangles: Tensor,
    camera: Tensor,
    normals: Tensor,
    size: tuple[int, int],
    pinhole: bool,
    cull: bool,
    near: float,
    antialias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """One level: normals [B,3,H,W], mask [B,1,H,W], ids [B,H,W], barycentrics [B,3,H,W], depth [B,1,H,W]."""
    height, width = size
    batch = vertices.shape[0]
    screen = project(vertices, camera, pinhole, near)
    index = triangles.long()
    with torch.no_grad():
        ids = visible_triangles(screen, index, size, cull)
    sample, row, column = torch.nonzero(ids >= 0, as_tuple=True)
    seen = ids[sample, row, column]
    order = corner_order(screen, index)[sample, seen]
    vertex = index[seen].gather(1, order)
    corners = at_level(screen, sample[:, None], vertex, size)
    _, q, inverse = edge_functions(corners, column, row)
    weights = q * inverse[:, None]
    depth = weighted_depth(corners, q, inverse)
    normal = unit((weights[..., None] * normals[sample[:, None], vertex]).sum(1))

    def image(values: Tensor) -> Tensor:
        canvas = values.new_zeros(batch, height, width, values.shape[1])
        return canvas.index_put((sample, row, column), values).permute(0, 3, 1, 2).contiguous()

    mask = (ids >= 0)[:, None].to(vertices.dtype)
    barycentrics = weights.gather(1, order)  # the orders (0, 1, 2) and (0, 2, 1) are their own inverses
    normal_image, depth_image = image(normal), image(depth[:, None])
    if antialias:
        from garfast.ops.antialias_reference import antialias_reference

        normal_image, mask = antialias_reference(screen, index, normals, cull, ids, depth_image, normal_image, mask)
    return normal_image, mask, ids.to(torch.int32), image(barycentrics), depth_image


def unit(vectors: Tensor) -> Tensor:
    """[N, 3] at length 1; 0, without a gradient, where the length is 0."""
    squared = (vectors * vectors).sum(1, keepdim=True)
    return torch.where(squared > 0, vectors / torch.where(squared > 0, squared, 1.0).sqrt(), 0.0)


def project(vertices: Tensor, camera: Tensor, pinhole: bool, near: float) -> Screen:
    """Camera space [B, V, 3] to normalised device coordinates."""

    def ndc(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        depth = -points[..., 2]
        x, y = camera[:, 0:1] * points[..., 0], camera[:, 1:2] * points[..., 1]
        if pinhole:
            x, y = x / depth, y / depth
        return x + camera[:, 2:3], y + camera[:, 3:4], depth

    with torch.no_grad():
        x, y, depth = ndc(vertices)
        drawable = (x.abs() <= _SCREEN_LIMIT) & (y.abs() <= _SCREEN_LIMIT) & (depth.abs() <= _DEPTH_LIMIT)
        if pinhole:
            drawable &= depth > near
    # Harmless coordinates in place of the others keep their NaNs and infinities out of the gradient.
    harmless = torch.where(drawable[..., None], vertices, vertices.new_tensor([0.0, 0.0, -1.0]))
    x, y, depth = ndc(harmless)
    inverse_w = 1 / depth if pinhole else torch.ones_like(depth)
    return Screen(torch.where(drawable, x, torch.nan), torch.where(drawable, y, torch.nan), depth, inverse_w)


def screen_area(screen: Screen, index: Tensor) -> Tensor:
    """Twice the signed area on the image of every triangle, [B, F]: positive for front faces."""
    (x0, x1, x2), (y0, y1, y2) = screen.x[:, index].unbind(-1), screen.y[:, index].unbind(-1)
    return (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)


def corner_order(screen: Screen, index: Tensor) -> Tensor:
    """[B, F, 3] the order of corners that makes each triangle a front face: (0, 1, 2) or (0, 2, 1)."""
    back = screen_area(screen, index).detach()[..., None] < 0
    return torch.where(back, index.new_tensor([0, 2, 1]), index.new_tensor([0, 1, 2]))


def at_level(screen: Screen, sample: Tensor, vertex: Tensor, size: tuple[int, int]) -> Corners:
    """The corners with these samples and vertices at one level."""
    half_height, half_width = size[0] * 0.5, size[1] * 0.5
    u = screen.x[sample, vertex] * half_width + half_width
    v = half_height - screen.y[sample, vertex] * half_height
    return Corners(u, v, screen.depth[sample, vertex], screen.inverse_w[sample, vertex])


def edge_functions(corners: Corners, column: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """e [N, 3], q [N, 3] and 1 / sum q [N] at the centres of N pixels."""
    u0, u1, u2 = (corners.u - (column + 0.5).to(corners.u.dtype)[:, None]).unbind(1)
    v0, v1, v2 = (corners.v - (row + 0.5).to(corners.v.dtype)[:, None]).unbind(1)
    e = torch.stack([v1 * u2 - u1 * v2, v2 * u0 - u2 * v0, v0 * u1 - u0 * v1], 1)
    q = e * corners.inverse_w
    return e, q, 1 / ((q[:, 0] + q[:, 1]) + q[:, 2])


def weighted_depth(corners: Corners, q: Tensor, inverse: Tensor) -> Tensor:
    """[N] the depth of the points."""
    parts = q * corners.depth
    return ((parts[:, 0] + parts[:, 1]) + parts[:, 2]) * inverse


def owned_edges(corners: Corners) -> Tensor:
    """[..., 3] whether pixel centres exactly on the edge opposite to a corner of a front face belong to it."""
    (u0, u1, u2), (v0, v1, v2) = corners.u.unbind(-1), corners.v.unbind(-1)
    ends = [(u1, v1, u2, v2), (u2, v2, u0, v0), (u0, v0, u1, v1)]
    return torch.stack([(vb > va) | ((vb == va) & (ub < ua)) for ua, va, ub, vb in ends], -1)


def visible_triangles(screen: Screen, index: Tensor, size: tuple[int, int], cull: bool) -> Tensor:
    """[B, H, W] int64, the triangle seen at each pixel, -1 where there is none."""
    height, width = size
    batch, faces = screen.x.shape[0], index.shape[0]
    area = screen_area(screen, index)
    sample, triangle = torch.nonzero(area > 0 if cull else area.abs() > 0, as_tuple=True)
    order = corner_order(screen, index)[sample, triangle]
    corners = at_level(screen, sample[:, None], index[triangle].gather(1, order), size)
    left, top = ((c.amin(1) - 0.5).clamp(min=0).ceil().long() for c in (corners.u, corners.v))
    right = (corners.u.amax(1) - 0.5).clamp(-1, width - 1).floor().long()
    bottom = (corners.v.amax(1) - 0.5).clamp(-1, height - 1).floor().long()
    columns = (right - left + 1).clamp(min=0)
    fragments = columns * (bottom - top + 1).clamp(min=0)
    owned = owned_edges(corners)

    nearest = screen.depth.new_full((batch * height * width,), torch.inf)
    ids = index.new_full((batch * height * width,), faces)
    chunk = fragments.cumsum(0) // _CHUNK
    for part in chunk.unique():
        members = torch.nonzero(chunk == part)[:, 0]
        counts = fragments[members]
        t = members.repeat_interleave(counts)
        k = torch.arange(len(t), device=t.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        row, column = top[t] + k // columns[t], left[t] + k % columns[t]
        here = Corners(*(values[t] for values in corners))
        e, q, inverse = edge_functions(here, column, row)
        depth = weighted_depth(here, q, inverse)
        inside = ((e > 0) | ((e == 0) & owned[t])).all(1) & depth.isfinite()
        pixel, depth, face = ((sample[t] * height + row) * width + column)[inside], depth[inside], triangle[t[inside]]
        before = nearest
        nearest = before.scatter_reduce(0, pixel, depth, "amin")
        ids = torch.where(nearest < before, faces, ids)
        ids = ids.scatter_reduce(0, pixel, torch.where(depth == nearest[pixel], face, faces), "amin")
    return torch.where(ids == faces, -1, ids).reshape(batch, height, width)
