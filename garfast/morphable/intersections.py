"""Where a mesh passes through itself (numpy): pairs of triangles without a common vertex that cross each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from garfast.errors import ArgumentError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Triangles whose radius is within one factor of two form a class; pairs are looked for class by class.
_CLASS_FACTOR = 2.0


def crossing_triangles(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> Ints:
    """Pairs of triangles that pass through each other.

    Two triangles cross where an edge of one goes through the inside of the other. Triangles that share a vertex are
    neighbours and are not compared; triangles that only touch, or lie in one plane, do not cross.

    Args:
        vertices: [V, 3], any unit.
        triangles: [F, 3] indices into the vertices.

    Returns:
        [N, 2] int64 indices of triangles, the smaller first, in ascending order.

    Raises:
        ArgumentError: the arrays do not have these shapes or a vertex is not finite.
    """
    points = np.asarray(vertices, np.float64)
    corners = np.asarray(triangles, np.int64)
    if points.ndim != 2 or points.shape[1] != 3 or corners.ndim != 2 or corners.shape[1] != 3:
        raise ArgumentError(f"expected vertices [V, 3] and triangles [F, 3], got {points.shape} and {corners.shape}")
    if not np.isfinite(points).all():
        raise ArgumentError("the mesh has vertices that are not finite")
    if len(corners) < 2:
        return np.zeros((0, 2), np.int64)
    pairs = _near_pairs(points[corners])
    first, second = corners[pairs[:, 0]], corners[pairs[:, 1]]
    apart = np.ones(len(pairs), bool)
    for i in range(3):
        for j in range(3):
            apart &= first[:, i] != second[:, j]
    pairs = pairs[apart]
    pairs = pairs[_through_plane(points[corners], pairs)]
    a, b = points[corners[pairs[:, 0]]], points[corners[pairs[:, 1]]]
    crossing = np.zeros(len(pairs), bool)
    for k in range(3):
        crossing |= _pierces(a[:, k], a[:, (k + 1) % 3], b)
        crossing |= _pierces(b[:, k], b[:, (k + 1) % 3], a)
    found = np.sort(pairs[crossing], axis=1)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def _near_pairs(corners: Floats) -> Ints:
    """Pairs [N, 2] of triangles [F, 3, 3] whose boxes overlap, each once."""
    from scipy.spatial import cKDTree

    low, high = corners.min(1), corners.max(1)
    centre = 0.5 * (low + high)
    radius = 0.5 * np.linalg.norm(high - low, axis=1)
    size = np.floor(np.log(np.maximum(radius, 1e-12)) / np.log(_CLASS_FACTOR)).astype(np.int64)
    groups = [np.flatnonzero(size == s) for s in np.unique(size)]
    trees = [cKDTree(centre[g]) for g in groups]
    pairs = []
    for i, (group, tree) in enumerate(zip(groups, trees, strict=True)):
        reach = float(radius[group].max())
        within = tree.query_pairs(2 * reach, output_type="ndarray")
        pairs.append(group[within])
        for other, other_tree in zip(groups[i + 1 :], trees[i + 1 :], strict=True):
            found = tree.sparse_distance_matrix(
                other_tree, reach + float(radius[other].max()), output_type="coo_matrix"
            )
            pairs.append(np.stack([group[found.row], other[found.col]], 1))
    both = np.concatenate(pairs)
    a, b = both.T
    overlap = np.ones(len(both), bool)
    for k in range(3):
        overlap &= (low[a, k] <= high[b, k]) & (low[b, k] <= high[a, k])
    return both[overlap].astype(np.int64)


def _through_plane(corners: Floats, pairs: Ints) -> NDArray[np.bool_]:
    """Whether each triangle of a pair has corners on both sides of the other's plane."""
    a, b = corners[:, 0], corners[:, 1]
    normal = np.cross(b - a, corners[:, 2] - a)
    level = (normal * a).sum(1)
    out = np.ones(len(pairs), bool)
    for mine, other in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
        side = np.einsum("nk,nck->nc", normal[mine], corners[other]) - level[mine][:, None]
        out &= (side.min(1) < 0) & (side.max(1) > 0)
    return out


def _volume(p: Floats, q: Floats, r: Floats, s: Floats) -> Floats:
    return np.einsum("nk,nk->n", np.cross(q - p, r - p), s - p)


def _pierces(p: Floats, q: Floats, triangle: Floats) -> NDArray[np.bool_]:
    """Whether the segment from p to q [N, 3] goes through the inside of the triangle [N, 3, 3]."""
    a, b, c = triangle[:, 0], triangle[:, 1], triangle[:, 2]
    start, stop = _volume(a, b, c, p), _volume(a, b, c, q)
    u, v, w = _volume(p, q, a, b), _volume(p, q, b, c), _volume(p, q, c, a)
    inside = ((u > 0) & (v > 0) & (w > 0)) | ((u < 0) & (v < 0) & (w < 0))
    return (start * stop < 0) & inside
