"""Places on a neutral face mesh: points seen from the front, sliding jaw lines and soft masks (numpy, for importers).

All of it works on one face in model space (millimetres, x to the subject's left, y up, z out of the face).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from garfast.errors import ArgumentError
from garfast.ops import vertex_normals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def unique_edges(triangles: Ints) -> Ints:
    """Each edge of a mesh once, [E, 2], the smaller vertex first."""
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    return np.unique(edges, axis=0)


def front_points(vertices: Floats, triangles: Ints, targets: Floats) -> tuple[Ints, Floats]:
    """The surface points that a viewer in front of the face sees at the given places.

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3].
        targets: [N, 2] x and y, mm.

    Returns:
        [N, 3] vertices of the front-most triangle at each place and [N, 3] barycentric weights.

    Raises:
        ArgumentError: no triangle lies at one of the places.
    """
    corners = vertices[triangles]
    a, b, c = (corners[:, k, :2] for k in range(3))
    area = _cross(b - a, c - a)
    usable = np.abs(area) > 1e-9
    indices, weights = [], []
    for target in targets:
        with np.errstate(divide="ignore", invalid="ignore"):
            w0 = _cross(b - target, c - target) / area
            w1 = _cross(c - target, a - target) / area
        bary = np.stack([w0, w1, 1 - w0 - w1], 1)
        hit = usable & (bary >= -1e-6).all(1)
        if not hit.any():
            raise ArgumentError(f"the face has no surface at x = {target[0]:.1f} mm, y = {target[1]:.1f} mm")
        depth = np.where(hit, (np.where(hit[:, None], bary, 0) * corners[..., 2]).sum(1), -np.inf)
        best = int(depth.argmax())
        clipped = np.clip(bary[best], 0, None)
        indices.append(triangles[best])
        weights.append(clipped / clipped.sum())
    return np.stack(indices), np.stack(weights)


def contour_chains(
    vertices: Floats,
    triangles: Ints,
    jaw: Ints,
    *,
    axis_y: float,
    inner: Floats,
    spacing: float = 4.0,
) -> Ints:
    """Vertices that each jaw landmark may slide over when the outline of a turned head moves across the cheek.

    A landmark slides in a plane that contains the direction of z: horizontal for landmarks above ``axis_y``, and fanned
    out around the line (0, axis_y, z) for those below, so that the chin's plane is the symmetry plane. The chain starts
    with the landmark's own vertex and follows the cut of that plane through the mesh toward the front of the face.

    Args:
        vertices: [V, 3] mm, with the origin inside the head.
        triangles: [F, 3] of the skin around the cheeks; the chain crosses only these.
        jaw: [N] vertices of the jaw landmarks.
        axis_y: height of the fan's axis, mm.
        inner: [N] where each chain ends, as a fraction of the landmark's distance from the axis.
        spacing: length of cut, mm, for which the vertex nearest to the plane is taken.

    Returns:
        [N, K] int64, padded with -1.
    """
    edges = unique_edges(triangles)
    chains = []
    for landmark, fraction in zip(jaw, inner, strict=True):
        point = vertices[landmark]
        cut = _fan_section(vertices, edges, point, axis_y)
        # The face is star-shaped around the head's axis, so the angle orders the cut from the front backward.
        angle = np.arctan2(cut.radius, cut.crossing[:, 2])
        own = np.arctan2(cut.reach, point[2])
        keep = (cut.radius >= fraction * cut.reach) & (angle < own)
        order = np.flatnonzero(keep)[np.argsort(-angle[keep])]
        nearest = np.where(cut.share < 0.5, cut.first, cut.second)
        path = np.concatenate([point[None], cut.crossing[order]])
        length = np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()
        off_plane = np.abs(cut.distance[nearest[order]])
        chain = [int(landmark)]
        for step in range(int(length[-1] / spacing) + 1 if len(length) else 0):
            window = np.flatnonzero((length >= (step + 0.5) * spacing) & (length < (step + 1.5) * spacing))
            if len(window):
                candidate = int(nearest[order[window[off_plane[window].argmin()]]])
                if candidate not in chain:
                    chain.append(candidate)
        chains.append(chain)
    padded = np.full((len(chains), max(map(len, chains))), -1, np.int64)
    for row, chain in zip(padded, chains, strict=True):
        row[: len(chain)] = chain
    return padded


class _Section(NamedTuple):
    """Where the edges of a mesh cross a plane of the fan that :func:`contour_chains` describes."""

    outward: Floats  # [2] unit vector from the fan's axis to the landmark, x and y
    reach: float  # the landmark's distance from the axis, mm
    distance: Floats  # [V] of all vertices from the plane, mm
    first: Ints  # [E] the ends of the crossed edges
    second: Ints
    share: Floats  # [E] where between its ends an edge is crossed
    crossing: Floats  # [E, 3] the crossings, mm
    radius: Floats  # [E] their distances from the axis, mm


def _fan_section(vertices: Floats, edges: Ints, point: Floats, axis_y: float) -> _Section:
    centre = np.array([0.0, max(float(point[1]), axis_y)])
    outward = point[:2] - centre
    reach = float(np.hypot(*outward))
    outward = outward / reach
    distance = (vertices[:, :2] - centre) @ np.array([-outward[1], outward[0]])
    first, second = edges[:, 0], edges[:, 1]
    cut = (distance[first] <= 0) != (distance[second] <= 0)
    first, second = first[cut], second[cut]
    share = distance[first] / (distance[first] - distance[second])
    crossing = vertices[first] + share[:, None] * (vertices[second] - vertices[first])
    return _Section(outward, reach, distance, first, second, share, crossing, (crossing[:, :2] - centre) @ outward)


def lower_edge_points(
    vertices: Floats, triangles: Ints, jaw: Ints, *, axis_y: float, facing: float, reach: float = 14.0
) -> tuple[Ints, Floats]:
    """Where the surface below jaw landmarks has turned away from a viewer in front: the edge that one sees and marks.

    Each landmark moves outward in its plane of the fan that :func:`contour_chains` describes until the surface's normal
    is ``facing`` degrees from the direction of z. One that lies there already, or beyond, stays at its vertex.

    Args:
        vertices: [V, 3] mm.
        triangles: [F, 3] of the skin; a landmark moves only on these.
        jaw: [N] vertices of the jaw landmarks.
        axis_y: height of the fan's axis, mm.
        facing: degrees.
        reach: how far behind its vertex a landmark's edge is looked for, mm.

    Returns:
        [N, 3] vertices of a triangle, the one that counts most first, and [N, 3] barycentric weights.
    """
    edges = unique_edges(triangles)
    mesh = torch.from_numpy(vertices)[None], torch.from_numpy(triangles.astype(np.int32))
    normals = vertex_normals(*mesh, impl="reference")[0].numpy()
    indices, weights = np.repeat(jaw[:, None], 3, 1), np.tile(np.array([1.0, 0.0, 0.0]), (len(jaw), 1))
    for k, landmark in enumerate(jaw):
        point = vertices[landmark]
        cut = _fan_section(vertices, edges, point, axis_y)
        behind = point[2] - cut.crossing[:, 2]
        near = np.flatnonzero((behind >= -1e-9) & (behind < reach) & (np.abs(cut.radius - cut.reach) < reach))
        near = near[np.argsort(behind[near])]
        share = cut.share[near, None]
        normal = (1 - share) * normals[cut.first[near]] + share * normals[cut.second[near]]
        turned = np.degrees(np.arctan2(normal[:, :2] @ cut.outward, normal[:, 2]))
        if len(near) == 0 or turned[0] >= facing or turned.max() < facing:
            continue
        beyond = int((turned >= facing).argmax())
        before, after = near[beyond - 1], near[beyond]
        part = (facing - turned[beyond - 1]) / (turned[beyond] - turned[beyond - 1])
        target = (1 - part) * cut.crossing[before] + part * cut.crossing[after]
        corners, share = (values[0] for values in front_points(vertices, triangles, target[None, :2]))
        order = np.argsort(-share, kind="stable")
        indices[k], weights[k] = corners[order], share[order]
    return indices, weights


def polygon_mask(points: Floats, polygon: Floats, soft: float, grow: float = 0.0) -> Floats:
    """How far points lie inside a polygon: 1 inside, 0 outside, a ramp of width ``soft`` centred on the outline.

    Args:
        points: [N, 2].
        polygon: [M, 2] corners in order; the outline is closed.
        soft: width of the ramp, in the unit of the points.
        grow: move the outline outward by this much.
    """
    return np.clip(0.5 + (grow - outline_distance(points, polygon)) / soft, 0, 1)


def outline_distance(points: NDArray[np.floating], outline: NDArray[np.floating]) -> Floats:
    """Signed distance [N] of points [N, 2] from a closed outline [M, 2], negative inside."""
    following = np.roll(outline, -1, 0)
    inside = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(outline, following, strict=True):
        if y0 != y1:
            crosses = (points[:, 1] < y0) != (points[:, 1] < y1)
            inside ^= crosses & (points[:, 0] < x0 + (points[:, 1] - y0) / (y1 - y0) * (x1 - x0))
    distance = line_distance(points, np.concatenate([outline, outline[:1]]))
    return np.where(inside, -distance, distance)


def line_distance(points: NDArray[np.floating], line: NDArray[np.floating]) -> Floats:
    """Distance [N] of points [N, D] from a polyline [M, D]."""
    best = np.full(len(points), np.inf)
    for start, end in itertools.pairwise(line):
        along = end - start
        share = np.clip((points - start) @ along / max(float(along @ along), 1e-12), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - start - share[:, None] * along, axis=1))
    return best


def smooth_curve(points: Floats, steps: int = 8) -> Floats:
    """A closed Catmull-Rom curve through points [M, D], [M * steps, D]."""
    before, after, beyond = np.roll(points, 1, 0), np.roll(points, -1, 0), np.roll(points, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (before, points, after, beyond))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * (p1 - p2) + p3 - p0) * t**3)
    return curve.reshape(-1, points.shape[1])


def smooth_mask(mask: Floats, edges: Ints, rounds: int) -> Floats:
    """Soften a mask [V] by averaging each vertex with its neighbours ``rounds`` times."""
    degree = np.bincount(edges.reshape(-1), minlength=len(mask))
    value = np.asarray(mask, np.float64)
    for _ in range(rounds):
        around = np.bincount(edges[:, 0], value[edges[:, 1]], len(value))
        around += np.bincount(edges[:, 1], value[edges[:, 0]], len(value))
        value = np.where(degree > 0, 0.5 * value + 0.5 * around / np.maximum(degree, 1), value)
    return np.clip(value, 0, 1)


def fit_sphere(points: Floats) -> tuple[Floats, float]:
    """Centre [3] and radius of the least-squares sphere through points [N, 3] (algebraic fit)."""
    origin = points.mean(0)
    local = points - origin
    system = np.concatenate([2 * local, np.ones((len(local), 1))], 1)
    solution = np.linalg.lstsq(system, (local**2).sum(1), rcond=None)[0]
    centre = solution[:3]
    return centre + origin, float(np.sqrt(solution[3] + centre @ centre))


def mirrored_vertices(vertices: Floats, groups: Ints | None = None) -> Ints:
    """For each vertex the one nearest to its mirror image (x -> -x), [V] int64.

    Args:
        vertices: [V, 3].
        groups: [V] only vertices of the same group are paired; None puts all in one.
    """
    from scipy.spatial import cKDTree

    labels = np.zeros(len(vertices), np.int64) if groups is None else groups
    result = np.zeros(len(vertices), np.int64)
    for label in np.unique(labels):
        member = np.flatnonzero(labels == label)
        _, nearest = cKDTree(vertices[member]).query(vertices[member] * np.array([-1.0, 1.0, 1.0]))
        result[member] = member[nearest]
    return result


def _cross(a: Floats, b: Floats) -> Floats:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
