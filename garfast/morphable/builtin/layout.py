"""The flat layout of the mesh: where its vertices lie on the head, and how they are joined.

Half the head (x >= 0) is laid out in a plane that is conformal to a sphere going over into a cylinder, with the crown
at the origin. Points repel one another along the edges of their Delaunay triangulation until the edges, measured on the
sculpted surface, have the wanted lengths (the truss analogy of Persson and Strang, "A Simple Mesh Generator in MATLAB",
2004); the rims of the eyes and the mouth and the neck's end are fixed curves. The half is then mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import Delaunay

from . import eyes, mouth
from .head import base_surface, level_range, locate
from .sculpture import surface

_BALL = 85.0
_EYE_POINTS = 26
_MOUTH_POINTS = 30
# Rounding after each step keeps the last bits of different machines from growing into different layouts.
_GRID = 1e-4


def to_plane(theta: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Plane coordinates [..., 2] of the head coordinates."""
    a = level / _BALL
    half_pi = np.pi / 2
    r = np.where(a < half_pi, np.tan(np.minimum(a, half_pi) / 2), np.exp(a - half_pi)) * _BALL
    return np.stack([r * np.sin(theta), r * np.cos(theta)], axis=-1)


def from_plane(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head coordinates (theta, level) of plane coordinates."""
    r = np.hypot(plane[..., 0], plane[..., 1]) / _BALL
    level = np.where(r < 1, 2 * np.arctan(r), np.pi / 2 + np.log(np.maximum(r, 1e-9))) * _BALL
    return np.arctan2(plane[..., 0], plane[..., 1]), np.minimum(level, level_range())


@dataclass
class Layout:
    """Half of the head in the plane: points, their triangles, and the rims as runs of vertex indices."""

    plane: np.ndarray
    triangles: np.ndarray
    eye_rim: np.ndarray
    upper_lip_rim: np.ndarray
    lower_lip_rim: np.ndarray


def eye_curve(grow: float = 0.0) -> np.ndarray:
    """Closed curve [N, 2] around the eye opening, counter-clockwise from the inner corner, grown outward in mm."""
    u = 0.5 - 0.5 * np.cos(np.pi * np.arange(_EYE_POINTS + 1) / _EYE_POINTS)
    x = eyes.INNER[0] + u * (eyes.OUTER[0] - eyes.INNER[0])
    curve = np.concatenate([np.stack([x, eyes.lower_lid(x)], 1), np.stack([x, eyes.upper_lid(x)], 1)[::-1][1:-1]])
    if grow:
        tangent = np.roll(curve, -1, 0) - np.roll(curve, 1, 0)
        normal = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
        curve = curve + grow * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return curve


def _lip_curves(grow: float) -> tuple[np.ndarray, np.ndarray]:
    u = np.sin(0.5 * np.pi * np.arange(_MOUTH_POINTS + 1) / _MOUTH_POINTS) ** 0.92
    x = u * mouth.CORNER_X
    reach = np.concatenate([x[:-1], [mouth.CORNER_X + grow]])
    mid, gap = mouth.stomion(x), mouth.slit_gap(x)
    return (
        np.stack([reach, mid + (gap + grow) * np.append(np.ones(_MOUTH_POINTS), 0)], 1),
        np.stack([reach, mid - (gap + grow) * np.append(np.ones(_MOUTH_POINTS), 0)], 1),
    )


def spacing(base: np.ndarray) -> np.ndarray:
    """Wanted edge length in mm at points [N, 3] of the featureless head."""
    x, y, z = np.abs(base[:, 0]), base[:, 1], base[:, 2]

    def around(cx: float, cy: float, rx: float, ry: float, size: float, growth: float) -> np.ndarray:
        d = np.hypot(np.maximum(np.abs(x - cx) - rx, 0), np.maximum(np.abs(y - cy) - ry, 0))
        return size + growth * (d + 2.0 * np.maximum(40.0 - z, 0.0) * (z < 40))

    h = np.minimum(9.0, 3.0 + 0.07 * np.hypot(np.maximum(x - 50, 0), np.maximum(y - 45, 0) + np.maximum(-95 - y, 0)))
    h = np.maximum(h, np.where(z < 20, np.minimum(4.0 + 0.06 * (20 - z), 9.0), 0))
    h = np.minimum(h, around(31.3, 15, 13.5, 6.5, 1.05, 0.11))
    h = np.minimum(h, around(30, 34.5, 21, 3.5, 1.7, 0.12))
    h = np.minimum(h, around(0, -53.5, 24, 7, 1.15, 0.10))
    h = np.minimum(h, around(8, -22, 8, 6, 1.25, 0.12))
    return np.minimum(h, around(0, 2, 7, 20, 1.6, 0.14))


def _inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    a, b = polygon, np.roll(polygon, -1, 0)
    y = points[:, 1:2]
    cross = (a[:, 1] > y) != (b[:, 1] > y)
    rise = np.where(b[:, 1] == a[:, 1], 1e-12, b[:, 1] - a[:, 1])
    at = a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / rise
    return (np.sum(cross & (points[:, 0:1] < at), axis=1) % 2) == 1


def _middle_points(theta: float, start: float, stop: float) -> np.ndarray:
    """Points of the front or back midline between two levels, spaced as `spacing` asks."""
    level = np.linspace(start, stop, 1500)
    t = np.full_like(level, theta)
    p = surface(t, level)
    h = spacing(base_surface(t, level))
    step = np.linalg.norm(np.diff(p, axis=0), axis=1) / (0.5 * (h[1:] + h[:-1]))
    length = np.concatenate([[0.0], np.cumsum(step)])
    count = max(3, round(length[-1]) + 1)
    return to_plane(np.full(count, theta), np.interp(np.linspace(0, length[-1], count), length, level))


def _seed(rng: np.random.Generator) -> np.ndarray:
    """Random plane points with the wanted density on the sculpted surface."""
    theta, level = np.meshgrid(np.linspace(0.0, np.pi, 421), np.linspace(2.0, level_range(), 561), indexing="ij")
    shape = theta.shape
    p = surface(theta.ravel(), level.ravel()).reshape(*shape, 3)
    du, dv = p[1:, :-1] - p[:-1, :-1], p[:-1, 1:] - p[:-1, :-1]
    area = np.linalg.norm(np.cross(du, dv), axis=-1)
    base = base_surface(theta[:-1, :-1].ravel(), level[:-1, :-1].ravel())
    wanted = area.ravel() / (0.93 * spacing(base) ** 2)
    total = np.cumsum(wanted)
    count = int(total[-1])
    pick = np.searchsorted(total, (np.arange(count) + rng.random(count)) * total[-1] / count)
    pick = np.minimum(pick, len(total) - 1)
    t = theta[:-1, :-1].ravel()[pick] + rng.random(count) * np.pi / 420
    v = level[:-1, :-1].ravel()[pick] + rng.random(count) * (level_range() - 2.0) / 560
    return to_plane(t, v)


def _edges(triangles: np.ndarray) -> np.ndarray:
    e = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(e, axis=0)


def _embed(plane: np.ndarray) -> np.ndarray:
    return surface(*from_plane(plane))


def build_layout(steps: int = 70, seed: int = 7) -> Layout:
    """Lay out half of the head."""
    rng = np.random.default_rng(seed)
    eye, eye_far = to_plane(*locate(*eye_curve().T)), to_plane(*locate(*eye_curve(1.0).T))
    lips = [to_plane(*locate(*c.T)) for c in _lip_curves(0.0)]
    lips_far = [to_plane(*locate(*c.T)) for c in _lip_curves(0.9)]
    neck_theta = np.linspace(0.0, np.pi, 29)
    neck = to_plane(neck_theta, np.full(29, level_range()))
    middle = np.concatenate(
        [
            _middle_points(0.0, 0.0, from_plane(lips_far[0][:1])[1][0])[:-1],
            _middle_points(0.0, from_plane(lips_far[1][:1])[1][0], level_range())[1:-1],
            _middle_points(np.pi, 0.0, level_range())[1:-1],
        ]
    )
    border_x = np.linspace(1.1, mouth.CORNER_X - 1.9, 20)
    borders = [to_plane(*locate(border_x, f(border_x))) for f in (mouth.upper_border, mouth.lower_border)]
    fixed = np.concatenate([eye, eye_far, lips[0], lips[1][:-1], lips_far[0], lips_far[1][:-1], *borders, neck])
    eye_hole, mouth_hole = eye, np.concatenate([lips[0], lips[1][::-1]])
    mouth_hole_open = np.concatenate([mouth_hole, [[-5.0, lips[1][0, 1]], [-5.0, lips[0][0, 1]]]])
    keep_out = [
        eye_far,
        np.concatenate([lips_far[0], lips_far[1][::-1], [[-5.0, lips_far[1][0, 1]], [-5.0, lips_far[0][0, 1]]]]),
    ]
    free = _seed(rng)
    for hole in keep_out:
        free = free[~_inside(hole, free)]
    free = free[free[:, 0] > 0.5]
    middle[:, 0] = 0.0
    points = np.concatenate([fixed, middle, free])
    points[np.abs(points[:, 0]) < 1e-6, 0] = 0.0
    n_fixed, n_middle = len(fixed), len(middle)
    still = np.arange(len(points)) < n_fixed
    on_middle = (np.arange(len(points)) >= n_fixed) & (np.arange(len(points)) < n_fixed + n_middle)
    ends = np.isin(np.arange(len(points)), n_fixed + np.array([0]))
    still |= ends

    def triangulate(pts: np.ndarray) -> np.ndarray:
        tri = Delaunay(pts).simplices
        mid = pts[tri].mean(axis=1)
        good = ~_inside(eye_hole, mid) & ~_inside(mouth_hole_open, mid)
        # Slivers along the straight middle line and outside the neck's rim.
        a, b, c = pts[tri[:, 0]], pts[tri[:, 1]], pts[tri[:, 2]]
        area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        flat = (pts[tri, 0] <= 0).all(axis=1)
        tri = np.where((area > 0)[:, None], tri, tri[:, [0, 2, 1]])
        rim = np.isin(tri, np.arange(n_fixed - len(neck), n_fixed)).all(axis=1)
        return tri[good & ~flat & ~rim]

    triangles = triangulate(points)
    for step in range(steps):
        position = _embed(points)
        if step % 3 == 0:
            triangles = triangulate(points)
            edges = _edges(triangles)
            h = spacing(base_surface(*from_plane(points)))
            eps = 0.02
            du = (_embed(points + np.array([eps, 0.0])) - position) / eps
            dv = (_embed(points + np.array([0.0, eps])) - position) / eps
        vec = position[edges[:, 1]] - position[edges[:, 0]]
        length = np.linalg.norm(vec, axis=1)
        wanted = 0.5 * (h[edges[:, 0]] + h[edges[:, 1]])
        wanted = 1.15 * wanted * np.sqrt(np.mean(length**2 / wanted**2))
        force = (np.maximum(wanted - length, 0.0) / np.maximum(length, 1e-9))[:, None] * vec
        push = np.zeros_like(points)
        total = np.zeros_like(position)
        for k in range(3):
            total[:, k] = np.bincount(edges[:, 1], force[:, k], len(points)) - np.bincount(
                edges[:, 0], force[:, k], len(points)
            )
        uu, uv, vv = (du * du).sum(1) + 1e-6, (du * dv).sum(1), (dv * dv).sum(1) + 1e-6
        bu, bv = (du * total).sum(1), (dv * total).sum(1)
        det = np.maximum(uu * vv - uv * uv, 1e-4 * uu * vv)
        push[:, 0], push[:, 1] = (vv * bu - uv * bv) / det, (uu * bv - uv * bu) / det
        limit = 0.35 * h / np.sqrt(np.minimum(uu, vv))
        size = np.linalg.norm(push, axis=1) * 0.2
        push *= (0.2 * np.minimum(1.0, limit / np.maximum(size, 1e-9)))[:, None]
        push[still] = 0.0
        push[on_middle, 0] = 0.0
        moved = points + push
        bad = np.zeros(len(points), bool)
        for hole in keep_out:
            bad |= _inside(hole, moved)
        bad |= np.hypot(moved[:, 0], moved[:, 1]) > np.hypot(*neck[0]) - 0.5
        bad |= (moved[:, 0] < 0.15 * h / np.sqrt(uu)) & ~on_middle
        moved[bad] = points[bad]
        points = np.round(moved / _GRID) * _GRID
        points[:n_fixed] = fixed
        points[: n_fixed + n_middle][np.abs(points[: n_fixed + n_middle, 0]) < 1e-6, 0] = 0.0
    triangles = flip_edges(_embed(points), points, triangulate(points))
    n_eye, n_lip = len(eye), len(lips[0])
    first_lip = 2 * n_eye
    lower = np.append(np.arange(first_lip + n_lip, first_lip + 2 * n_lip - 1), first_lip + n_lip - 1)
    return Layout(
        plane=points,
        triangles=triangles,
        eye_rim=np.arange(n_eye),
        upper_lip_rim=np.arange(first_lip, first_lip + n_lip),
        lower_lip_rim=lower,
    )


def flip_edges(position: np.ndarray, plane: np.ndarray, triangles: np.ndarray, rounds: int = 30) -> np.ndarray:
    """Turn diagonals until the triangles on the surface are as Delaunay as they can be without folding in the plane."""
    triangles = triangles.copy()

    def angle(at: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        u, v = position[b] - position[at], position[c] - position[at]
        return np.arctan2(np.linalg.norm(np.cross(u, v), axis=1), (u * v).sum(1))

    def area(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        u, v = plane[b] - plane[a], plane[c] - plane[a]
        return u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]

    n = len(position)
    for _ in range(rounds):
        corner = np.arange(3 * len(triangles))
        face, k = corner // 3, corner % 3
        a, b, opposite = triangles[face, k], triangles[face, (k + 1) % 3], triangles[face, (k + 2) % 3]
        key = np.minimum(a, b) * n + np.maximum(a, b)
        order = np.argsort(key, kind="stable")
        same = np.flatnonzero(key[order][1:] == key[order][:-1])
        i, j = order[same], order[same + 1]
        va, vb, c, d = a[i], b[i], opposite[i], opposite[j]
        gain = angle(c, va, vb) + angle(d, va, vb) - np.pi
        ok = (gain > 1e-3) & (area(c, d, vb) > 1e-7) & (area(d, c, va) > 1e-7)
        if not ok.any():
            break
        chosen = np.flatnonzero(ok)[np.argsort(-gain[ok], kind="stable")]
        used = np.zeros(len(triangles), bool)
        for e in chosen:
            f, g = face[i[e]], face[j[e]]
            if used[f] or used[g]:
                continue
            used[f] = used[g] = True
            triangles[f] = (c[e], d[e], vb[e])
            triangles[g] = (d[e], c[e], va[e])
    return triangles
