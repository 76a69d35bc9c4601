"""Distances from points to triangle meshes, exact to rounding (numpy, float64)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.errors import ArgumentError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FIRST = 8  # pieces looked at for every point at first
_BLOCK = 1_000_000  # pairs of points and triangles compared at once; bounds the memory to about 200 MB


class Nearest(NamedTuple):
    """The nearest places of a surface to N points.

    Attributes:
        points: [N, 3] those places.
        triangles: [N] int64, in which triangle each lies.
        weights: [N, 3] barycentric coordinates there.
        normals: [N, 3] unit normals of these triangles.
        distance: [N] to the surface (point to surface).
        to_plane: [N] to the plane of that triangle, positive on its outer side (point to plane). Equal in size to
            ``distance`` where the nearest place lies inside a triangle, smaller at edges and at the mesh's rim.
    """

    points: Floats
    triangles: Ints
    weights: Floats
    normals: Floats
    distance: Floats
    to_plane: Floats


class Surface:
    """A triangle mesh that answers where it is nearest to points.

    The mesh is cut (for the search only) into pieces no larger than most triangles; a k-d tree of their centres
    gives candidates, and the search goes on until no other piece can be nearer.

    Args:
        vertices: [V, 3].
        triangles: [F, 3] indices, counter-clockwise seen from outside; those without an area are left out.

    Raises:
        ArgumentError: shapes, indices or values that make no mesh.
    """

    def __init__(self, vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> None:
        self.vertices = np.ascontiguousarray(vertices, np.float64)
        index = np.ascontiguousarray(triangles, np.int64)
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3 or not np.isfinite(self.vertices).all():
            raise ArgumentError(f"a surface needs finite vertices of shape [V, 3], got {list(np.shape(vertices))}")
        if (
            index.ndim != 2
            or index.shape[1] != 3
            or (index.size and not 0 <= index.min() <= index.max() < len(vertices))
        ):
            raise ArgumentError(f"a surface needs triangles [F, 3] with indices below {len(self.vertices)}")
        corners = self.vertices[index]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        length = np.linalg.norm(normals, axis=1)
        keep = length > 1e-12
        if not keep.any():
            raise ArgumentError("a surface needs at least one triangle with an area")
        self.triangles = index[keep]
        self._corners = corners[keep]
        self._normals = normals[keep] / length[keep, None]

    @cached_property
    def vertex_areas(self) -> Floats:
        """[V] a third of the area of the triangles around each vertex."""
        corners = self._corners
        area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        share = np.bincount(self.triangles.reshape(-1), np.repeat(area / 3, 3), len(self.vertices))
        return share.astype(np.float64)

    def nearest(self, points: NDArray[np.floating]) -> Nearest:
        """The nearest places to points [N, 3].

        Raises:
            ArgumentError: the points are not finite or not [N, 3].
        """
        p = np.ascontiguousarray(points, np.float64)
        if p.ndim != 2 or p.shape[1] != 3 or not np.isfinite(p).all():
            raise ArgumentError(f"points must be finite and of shape [N, 3], got {list(p.shape)}")
        tree, owner, radius = self._index
        best = np.full(len(p), np.inf)
        triangle = np.zeros(len(p), np.int64)
        todo, count = np.arange(len(p)), min(_FIRST, len(owner))
        while len(todo):
            open_ = []
            for rows in np.array_split(todo, max(1, -(-len(todo) * count // _BLOCK))):
                reach, pieces = tree.query(p[rows], k=count)
                reach, pieces = reach.reshape(len(rows), -1), pieces.reshape(len(rows), -1)
                candidates = owner[pieces]
                square = _square_distances(p[rows], self._corners[candidates])
                first = square.argmin(1)
                line = np.arange(len(rows))
                best[rows] = np.sqrt(square[line, first])
                triangle[rows] = candidates[line, first]
                # Every piece further down the list lies at least this far away.
                open_.append(rows[reach[:, -1] - radius < best[rows]])
            if count == len(owner):
                break
            todo, count = np.concatenate(open_), min(4 * count, len(owner))
        corners = self._corners[triangle]
        weights = _barycentric(p, corners)
        places = (weights[..., None] * corners).sum(1)
        offset = p - places
        normals = self._normals[triangle]
        return Nearest(places, triangle, weights, normals, np.linalg.norm(offset, axis=1), (offset * normals).sum(1))

    @cached_property
    def _index(self) -> tuple[Any, Ints, float]:
        """A k-d tree of the pieces' centres, the triangle of each, and the largest distance of a piece's corner."""
        from scipy.spatial import cKDTree

        pieces, owner = self._corners, np.arange(len(self._corners))
        radius = _radii(pieces)
        limit = max(float(np.percentile(radius, 60)), 1e-3 * float(np.ptp(pieces.reshape(-1, 3), 0).max()))
        limit = max(limit, 0.5 * float(radius.max()) / 64)  # at most about 16000 pieces for one triangle
        done: list[tuple[Floats, Ints]] = []
        while len(pieces):
            large = _radii(pieces) > limit
            done.append((pieces[~large].mean(1), owner[~large]))
            a, b, c = (pieces[large][:, k] for k in range(3))
            ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
            quarters = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
            pieces = np.concatenate([np.stack(quarter, 1) for quarter in quarters])
            owner = np.tile(owner[large], 4)
        centres, owners = (np.concatenate(part) for part in zip(*done, strict=True))
        return cKDTree(centres), owners, limit


def _radii(pieces: Floats) -> Floats:
    return np.linalg.norm(pieces - pieces.mean(1, keepdims=True), axis=2).max(1)


def _square_distances(points: Floats, corners: Floats) -> Floats:
    """[N, K] squared distances of points [N, 3] to triangles [N, K, 3, 3]."""
    count = corners.shape[1]
    flat = corners.reshape(-1, 3, 3)
    repeated = np.repeat(points, count, 0)
    places = (_barycentric(repeated, flat)[..., None] * flat).sum(1)
    return ((repeated - places) ** 2).sum(1).reshape(-1, count)


def _barycentric(points: Floats, corners: Floats) -> Floats:
    """[N, 3] barycentric coordinates of the nearest place of triangles [N, 3, 3] to points [N, 3].

    By the regions of Ericson, "Real-Time Collision Detection" (2005), section 5.1.5.
    """
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    ab, ac = b - a, c - a
    ap, bp, cp = points - a, points - b, points - c
    d1, d2 = _dot(ab, ap), _dot(ac, ap)
    d3, d4 = _dot(ab, bp), _dot(ac, bp)
    d5, d6 = _dot(ab, cp), _dot(ac, cp)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    with np.errstate(divide="ignore", invalid="ignore"):
        on_ab, on_ac = d1 / (d1 - d3), d2 / (d2 - d6)
        on_bc = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        inside = 1 / (va + vb + vc)
        v, w = vb * inside, vc * inside
    zero, one = np.zeros_like(d1), np.ones_like(d1)
    conditions = [
        (d1 <= 0) & (d2 <= 0),
        (d3 >= 0) & (d4 <= d3),
        (d6 >= 0) & (d5 <= d6),
        (vc <= 0) & (d1 >= 0) & (d3 <= 0),
        (vb <= 0) & (d2 >= 0) & (d6 <= 0),
        (va <= 0) & (d4 - d3 >= 0) & (d5 - d6 >= 0),
    ]
    wb = np.select(conditions, [zero, one, zero, on_ab, zero, 1 - on_bc], v)
    wc = np.select(conditions, [zero, zero, one, zero, on_ac, on_bc], w)
    return np.stack([1 - wb - wc, wb, wc], 1)


def _dot(x: Floats, y: Floats) -> Floats:
    return (x * y).sum(-1)


def crop(
    vertices: NDArray[np.floating], triangles: NDArray[np.integer], centre: NDArray[np.floating], radius: float
) -> tuple[NDArray[np.floating], Ints, Ints]:
    """The part of a mesh within a distance of a point: triangles with all corners inside it.

    Args:
        vertices: [V, 3], mm.
        triangles: [F, 3].
        centre: [3], such as the tip of the nose.
        radius: mm.

    Returns:
        Its vertices [v, 3] and triangles [f, 3], and the rows [v] of its vertices in the whole mesh.

    Raises:
        ArgumentError: nothing is left.
    """
    inside = np.linalg.norm(np.asarray(vertices, np.float64) - centre, axis=1) <= radius
    return keep_vertices(vertices, triangles, inside)


def keep_vertices(
    vertices: NDArray[np.floating], triangles: NDArray[np.integer], keep: NDArray[np.bool_]
) -> tuple[NDArray[np.floating], Ints, Ints]:
    """The part of a mesh whose triangles have all corners among the vertices ``keep`` [V]; returns as :func:`crop`.

    Raises:
        ArgumentError: nothing is left.
    """
    faces = np.asarray(triangles, np.int64)
    faces = faces[keep[faces].all(1)]
    if not len(faces):
        raise ArgumentError("no triangle of the mesh lies in the part to evaluate: check its unit (mm) and the region")
    rows = np.unique(faces)
    place = np.full(len(vertices), -1, np.int64)
    place[rows] = np.arange(len(rows))
    return vertices[rows], place[faces], rows
