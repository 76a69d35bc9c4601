"""Texture coordinates and soft region masks of the built-in face."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from . import eyes, mouth
from .assembly import Assembly
from .head import level_range
from .nose import nostril
from .shapes import smoothstep

_BOTTOM = 0.16


def _skin_uv(theta: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Cylindrical unwrap with the face enlarged; the seam is the back midline."""
    t = theta / np.pi
    end = level_range()
    down = PchipInterpolator(
        [0.0, 60.0, 105.0, 200.0, 300.0, 330.0, end], [1.0, 0.94, 0.87, 0.58, 0.27, 0.225, _BOTTOM]
    )
    return np.stack([0.5 + 0.5 * (1.7 * t - 0.7 * t * np.abs(t)), down(level)], -1)


def _unfold(uv: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Places uv [U, 2] without folds: the corners of a triangle that lies turned over go between their neighbours.

    Around the nostrils the skin is so steep that a narrow triangle can turn over in the unwrap.
    """
    uv = uv.copy()
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    for _ in range(20):
        a, b, c = uv[triangles].transpose(1, 0, 2)
        folded = (b - a)[:, 0] * (c - a)[:, 1] < (b - a)[:, 1] * (c - a)[:, 0]
        if not folded.any():
            return uv
        corners = np.unique(triangles[folded])
        uv[corners] = [uv[edges[edges[:, 0] == i, 1]].mean(axis=0) for i in corners]
    raise RuntimeError("the unwrap of the skin stays folded")


def _piece_uv(name: str, grid: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Places of the other pieces in the strip under the skin, mirrored for the subject's right."""
    discs = {"eyeball": (0.925, 0.078, 0.07), "ear": (0.802, 0.106, 0.048)}
    if name in discs:
        cx, cy, radius = discs[name]
        u, v = cx + radius * (2 * grid[:, 0] - 1), cy + radius * (2 * grid[:, 1] - 1)
        return np.stack([np.where(right, 1 - u, u), v], -1)
    low, high, width = {
        "mouth_socket": (0.006, 0.052, 0.33),
        "teeth_upper": (0.060, 0.086, 0.25),
        "teeth_lower": (0.092, 0.118, 0.25),
        "tongue": (0.124, 0.152, 0.12),
    }[name]
    u, v = 0.5 + width * grid[:, 0], high - (high - low) * grid[:, 1]
    return np.stack([np.where(right, 1 - u, u), v], -1)


def texture(a: Assembly) -> tuple[np.ndarray, np.ndarray]:
    """uv [U, 2] and uv_triangles [F, 3]; no two triangles overlap."""
    v = a.vertices
    uv = _skin_uv(a.theta, a.level)
    skin = a.triangles[a.is_piece("skin")[a.triangles].all(axis=1)]
    uv = _unfold(uv, skin[np.ptp(uv[skin, 0], axis=1) < 0.5])  # none across the seam
    # The lid margins lie inside the eye openings of the unwrap.
    rim_size = len(a.eye_rim)
    for side in (1, -1):
        rim = a.eye_rim if side > 0 else a.mirror[a.eye_rim]
        margin = np.flatnonzero(a.is_piece("lid_margin") & (v[:, 0] * side > 0))
        middle = uv[rim].mean(axis=0)
        for ring in range(3):
            mine = margin[ring * rim_size : (ring + 1) * rim_size]
            uv[mine] = middle + (uv[rim] - middle) * (1 - 0.13 * (ring + 1))
    extra, uv_triangles = [], a.triangles.copy()
    total = len(uv)
    for name in ("eyeball", "mouth_socket", "teeth_upper", "teeth_lower", "tongue", "ear"):
        mine = a.is_piece(name)
        uv[mine] = _piece_uv(name, a.grid[mine], v[mine, 0] < 0)
    # The rim of the mouth has a second place, at the upper edge of the strip of the mouth's inside.
    socket_id = np.unique(
        a.triangle_piece[np.isin(a.triangles, np.flatnonzero(a.is_piece("mouth_socket"))).any(axis=1)]
    )
    socket = np.isin(a.triangle_piece, socket_id)
    path = np.concatenate([a.upper_lip_rim, a.lower_lip_rim[::-1][1:]])
    for side in (1, -1):
        line = path if side > 0 else a.mirror[path]
        grid = np.stack([np.arange(len(path)) / (len(path) - 1), np.zeros(len(path))], 1)
        place = _piece_uv("mouth_socket", grid, np.full(len(path), side < 0))
        where = np.full(len(v), -1)
        where[line] = total + np.arange(len(line))
        extra.append(place)
        total += len(line)
        own = socket & (v[a.triangles].mean(axis=1)[:, 0] * side > 0)
        tri = uv_triangles[own]
        uv_triangles[own] = np.where(where[tri] >= 0, where[tri], tri)
    # The back midline has one place at each end of the unwrap, so has the lower midline of the mouth's inside.
    right = v[a.triangles].mean(axis=1)[:, 0] < 0
    seam = np.flatnonzero((v[:, 0] == 0) & (np.abs(uv[:, 0] - 0.5) > 1e-6))
    where = np.full(len(v), -1)
    where[seam] = total + np.arange(len(seam))
    mirrored = uv[seam].copy()
    mirrored[:, 0] = 1 - mirrored[:, 0]
    extra.append(mirrored)
    total += len(seam)
    tri = uv_triangles[right]
    known = tri < len(where)
    moved = where[np.where(known, tri, 0)]
    uv_triangles[right] = np.where(known & (moved >= 0), moved, tri)
    # The crown has one place for each triangle around it.
    crown = int(np.argmin(np.where(a.is_piece("skin"), a.level, np.inf)))
    around = np.flatnonzero((a.triangles == crown).any(axis=1) & (a.triangle_piece == 0))
    all_uv = np.concatenate([uv, *extra])
    tops = []
    for f in around:
        k = int(np.flatnonzero(a.triangles[f] == crown)[0])
        others = all_uv[uv_triangles[f][[(k + 1) % 3, (k + 2) % 3]]]
        tops.append([others[:, 0].mean(), 1.0])
        uv_triangles[f, k] = total + len(tops) - 1
    return np.concatenate([all_uv, np.array(tops)]), uv_triangles


def regions(a: Assembly) -> dict[str, np.ndarray]:
    """Soft masks [V] in 0..1."""
    v, base = a.vertices, a.base
    x, y = np.abs(base[:, 0]), base[:, 1]
    skin = a.is_piece("skin").astype(float)
    front = smoothstep(base[:, 2], 30.0, 50.0)
    close_y = mouth.close(base[:, 0], y)
    s = np.abs(mouth.lip_coordinate(base[:, 0], close_y))
    edge = np.abs(close_y - mouth.stomion(x)) * (1 - 1 / np.maximum(s, 1e-3))
    lips = (
        skin
        * front
        * (1 - smoothstep(edge, -0.5, 0.6))
        * (1 - smoothstep(x, mouth.CORNER_X - 0.6, mouth.CORNER_X + 0.6))
    )
    arch = 31.0 + 6.5 * np.sin(np.pi * np.clip((x - 4.0) / 62.0, 0, 1)) ** 1.3 - 0.015 * np.maximum(x - 40, 0) ** 2
    thick = 3.6 * (1 - smoothstep(x, 28.0, 60.0) * 0.65)
    brows = (
        skin
        * front
        * np.exp(-0.5 * ((y - arch) / (0.55 * thick)) ** 2)
        * smoothstep(x, 6.5, 11.0)
        * (1 - smoothstep(x, 50.0, 59.0))
    )
    ball = a.is_piece("eyeball")
    mirrored = np.stack([np.abs(v[:, 0]), v[:, 1], v[:, 2]], 1) - eyes.CENTRE
    angle = np.arctan2(np.hypot(mirrored[:, 0], mirrored[:, 1]), mirrored[:, 2])
    iris = ball * (
        1
        - smoothstep(
            angle, np.arcsin(eyes.IRIS_RADIUS / eyes.RADIUS) - 0.012, np.arcsin(eyes.IRIS_RADIUS / eyes.RADIUS) + 0.012
        )
    )
    pupil_edge = np.arcsin(eyes.PUPIL_RADIUS / eyes.RADIUS)
    pupil = ball * (1 - smoothstep(angle, pupil_edge - 0.006, pupil_edge + 0.006))
    above = np.maximum(y - eyes.upper_lid(x), 0) + np.maximum(eyes.lower_lid(x) - y, 0)
    near = (1 - smoothstep(above, 3.0, 8.0)) * smoothstep(x, 14.0, 17.5) * (1 - smoothstep(x, 45.0, 48.5))
    lids = np.maximum(skin * front * near, a.is_piece("lid_margin"))
    # Hair would grow above this line, from the forehead over the temple and behind the ear to the nape.
    turn = np.degrees(np.abs(a.theta))
    line = PchipInterpolator(
        [0, 30, 44, 56, 65, 73, 82, 100, 112, 125, 140, 180], [84, 81, 71, 55, 36, 8, 4, 2, -22, -46, -58, -62]
    )
    scalp = skin * smoothstep(y - line(turn), -5.0, 5.0)
    neck = skin * smoothstep(a.level, level_range() - 100.0, level_range() - 78.0)
    out = {
        "skin": np.maximum(skin, a.is_piece("lid_margin", "ear")),
        "lips": lips,
        "brows": brows,
        "eyeballs": ball,
        "iris": iris,
        "pupil": pupil,
        "lids": lids,
        "teeth": a.is_piece("teeth_upper", "teeth_lower"),
        "tongue": a.is_piece("tongue"),
        "mouth_socket": a.is_piece("mouth_socket"),
        "ears": a.is_piece("ear"),
        "nostrils": skin
        * (mirrored[:, 2] > 16.0)
        * (1 - smoothstep(nostril(np.abs(v) * [1, 0, 0] + v * [0, 1, 1]), -1.2, 0.5)),
        "scalp": scalp,
        "neck": neck,
    }
    return {name: np.clip(mask, 0.0, 1.0).astype(np.float32) for name, mask in out.items()}
