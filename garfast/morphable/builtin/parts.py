"""The pieces that join the sculpted skin: lid margins, eyeballs, the inside of the mouth, teeth and tongue.

Every piece is made for the half x >= 0; `assembly.py` mirrors it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import eyes

GUM_UPPER, EDGE_UPPER = -44.5, -54.2
GUM_LOWER, EDGE_LOWER = -64.0, -54.6


@dataclass
class Piece:
    """Extra vertices and triangles; triangle entries below `base` are vertices of the skin."""

    name: str
    vertices: np.ndarray
    triangles: np.ndarray
    grid: np.ndarray  # [N, 2] coordinates in 0..1 for the texture


def strip(first: np.ndarray, second: np.ndarray, closed: bool = False) -> np.ndarray:
    """Two triangles between each pair of neighbours of two vertex rows."""
    if closed:
        first, second = np.append(first, first[0]), np.append(second, second[0])
    a, b, c, d = first[:-1], first[1:], second[1:], second[:-1]
    return np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def lid_margin(rim: np.ndarray, position: np.ndarray, base: int) -> Piece:
    """Thickness of the lids: from the rim back to the eyeball and on behind the lid."""
    p = position[rim]
    centre = eyes.CENTRE
    middle = np.array([0.5 * (eyes.INNER[0] + eyes.OUTER[0]), 0.5 * (eyes.INNER[1] + eyes.OUTER[1])])
    # Toward the corners, where the lids meet, the margin narrows.
    open_share = (eyes.upper_lid(p[:, 0]) - eyes.lower_lid(p[:, 0])) / (eyes.UPPER_HEIGHT + eyes.LOWER_HEIGHT)
    # At the corners the eyeball slopes away and the skin over it is thinner than elsewhere.
    thickness = np.linalg.norm(p - centre, axis=1) - eyes.RADIUS
    rings = []
    for share, grow in ((0.63, -0.35), (0.08, -0.20), (None, 1.6)):
        q = p.copy()
        away = p[:, :2] - middle
        away[:, 0] *= 0.25
        step = grow * np.clip(open_share, 0.05, 1.0) if grow < 0 else np.full(len(p), grow)
        q[:, :2] += step[:, None] * away / np.linalg.norm(away, axis=1, keepdims=True)
        ray = q - centre
        offset = np.full(len(p), -0.5) if share is None else share * thickness
        q = centre + ray / np.linalg.norm(ray, axis=1, keepdims=True) * (eyes.RADIUS + offset)[:, None]
        rings.append(q)
    n = len(rim)
    rows = [rim] + [base + k * n + np.arange(n) for k in range(3)]
    triangles = np.concatenate([strip(rows[k], rows[k + 1], closed=True) for k in range(3)])
    around = np.tile(np.arange(n) / n, 3)
    depth = np.repeat([1 / 3, 2 / 3, 1.0], n)
    return Piece("lid_margin", np.concatenate(rings), triangles, np.stack([around, depth], 1))


def ball_radius(angle: np.ndarray) -> np.ndarray:
    """Radius of the eyeball at an angle (radians) from its axis, with the bulge of the cornea."""
    return eyes.RADIUS + 0.55 * np.exp(-0.5 * (angle / 0.30) ** 4)


def ball_angles() -> np.ndarray:
    """Polar angles of the rings of the eyeball; pairs of rings mark the borders of pupil and iris."""
    pupil, iris = np.arcsin(eyes.PUPIL_RADIUS / eyes.RADIUS), np.arcsin(eyes.IRIS_RADIUS / eyes.RADIUS)
    return np.concatenate(
        [
            [0.5 * pupil, pupil - 0.008, pupil + 0.008],
            np.linspace(pupil, iris, 6)[1:-1],
            [iris - 0.014, iris + 0.014],
            np.linspace(iris, np.radians(88.0), 9)[1:],
        ]
    )


def eyeball(base: int, around: int = 40) -> Piece:
    """Front cap of the eyeball, rings about the axis of gaze (+z)."""
    angles = ball_angles()
    turn = 2 * np.pi * np.arange(around) / around
    a, t = np.meshgrid(angles, turn, indexing="ij")
    direction = np.stack([np.sin(a) * np.cos(t), np.sin(a) * np.sin(t), np.cos(a)], -1).reshape(-1, 3)
    points = eyes.CENTRE + direction * ball_radius(a).reshape(-1, 1)
    pole = eyes.CENTRE + np.array([0.0, 0.0, ball_radius(np.zeros(1))[0]])
    rows = [base + 1 + k * around + np.arange(around) for k in range(len(angles))]
    cap = np.stack([np.full(around, base), rows[0], np.roll(rows[0], -1)], 1)
    bands = [strip(rows[k], rows[k + 1], closed=True) for k in range(len(angles) - 1)]
    triangles = np.concatenate([cap, *[band[:, [0, 2, 1]] for band in bands]])
    flat = 0.5 + 0.5 * (a / angles[-1]).reshape(-1, 1) * np.stack([np.cos(t), np.sin(t)], -1).reshape(-1, 2)
    flat = np.concatenate([[[0.5, 0.5]], flat])
    return Piece("eyeball", np.concatenate([[pole], points]), triangles, flat)


def mouth_socket(upper: np.ndarray, lower: np.ndarray, position: np.ndarray, base: int) -> Piece:
    """Inner side of the lips and the pocket behind them; rims run from the middle to the corner."""
    path = np.concatenate([upper, lower[::-1][1:]])
    p = position[path]
    sign = np.concatenate([np.ones(len(upper)), -np.ones(len(lower) - 1)])
    sign[len(upper) - 1] = 0.0
    x = p[:, 0] / p[:, 0].max()
    ease = np.sqrt(np.clip(1 - x**2, 0, 1))
    near_corner = np.minimum(ease / 0.3, 1.0)
    rings = []
    for up, back, wide in (
        (0.9, 1.6, 1.0),
        (3.2, 4.2, 1.0),
        (6.6, 5.8, 1.01),
        (11.0, 7.0, 1.03),
        (15.0, 15.0, 1.08),
        (15.5, 28.0, 1.05),
        (10.0, 46.0, 0.85),
    ):
        q = p.copy()
        q[:, 0] *= wide
        # The pocket behind the lips keeps its height toward the cheeks, the lips themselves taper.
        taper = 0.12 if up < 5 else 0.55 * near_corner
        q[:, 1] += sign * up * (taper + (1 - taper) * ease)
        q[:, 2] -= back * (1.0 + 0.35 * x**2 * (back < 20))
        # The vertical edge where roof and floor meet bends outward, so that no sideways shear can fold it.
        q[:, 0] += 1.4 * (1 - near_corner) * min(1.0, max(0.0, (up - 4.0) / 8.0))
        rings.append(q)
    n = len(path)
    rows = [path] + [base + k * n + np.arange(n) for k in range(len(rings))]
    triangles = [strip(rows[k], rows[k + 1]) for k in range(len(rings))]
    last = rows[-1]
    half = n // 2
    # The back wall; its last quad ends in one vertex and is a triangle.
    triangles.append(np.delete(strip(last[: half + 1], last[::-1][: half + 1]), half - 1, axis=0))
    column = np.tile(np.arange(n) / (n - 1), len(rings))
    row = np.repeat((np.arange(len(rings)) + 1) / len(rings), n)
    return Piece(
        "mouth_socket", np.concatenate(rings), np.concatenate(triangles)[:, [0, 2, 1]], np.stack([column, row], 1)
    )


def _tooth_pattern(arc: np.ndarray, widths: tuple[float, ...]) -> np.ndarray:
    """Bulge in 0..1 of the tooth at an arc length from the middle."""
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    k = np.clip(np.searchsorted(edges, arc, side="right") - 1, 0, len(widths) - 1)
    t = (arc - edges[k]) / np.asarray(widths)[k]
    return np.sqrt(np.clip(1 - np.abs(2 * np.clip(t, 0, 1) - 1) ** 3.0, 0, 1))


def teeth(name: str, base: int, columns: int = 49) -> Piece:
    """One half row of teeth along the dental arch: front faces and biting edge."""
    top = name == "teeth_upper"
    widths = (8.4, 6.6, 7.6, 7.0, 6.8, 9.6) if top else (5.4, 5.9, 6.8, 7.0, 7.1, 10.5)
    gum, edge = (GUM_UPPER, EDGE_UPPER) if top else (GUM_LOWER, EDGE_LOWER)
    front = 96.6 if top else 92.6
    x_fine = np.linspace(0.0, 26.0, 400)
    z_fine = front - 0.034 * x_fine**2 - 0.00002 * x_fine**4
    arc_fine = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x_fine), np.diff(z_fine)))])
    arc = np.linspace(0.0, min(sum(widths), arc_fine[-1]), columns)
    x, z = np.interp(arc, arc_fine, x_fine), np.interp(arc, arc_fine, z_fine)
    normal = np.stack([0.068 * x, np.ones_like(x)], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    bulge = _tooth_pattern(arc, widths)
    bulge[0] = 0.0
    rows = []
    for share, out in (
        (0.0, -0.6),
        (0.25, 0.1),
        (0.55, 0.35),
        (0.85, 0.1),
        (1.0, -0.5),
        (0.98, -3.0),
        (0.5, -4.6),
        (0.0, -6.0),
    ):
        y = gum + (edge - gum) * share
        lift = (share > 0.9) * (1 - bulge) * 1.0 * (1 if top else -1)
        depth = out + 0.75 * (bulge - 1) * (share > 0.1)
        rows.append(np.stack([x + normal[:, 0] * depth, np.full_like(x, y) + lift, z + normal[:, 1] * depth], 1))
        rows[-1][0, 0] = 0.0
    index = [base + k * columns + np.arange(columns) for k in range(len(rows))]
    triangles = np.concatenate([strip(index[k], index[k + 1]) for k in range(len(rows) - 1)])
    if top:
        triangles = triangles[:, [0, 2, 1]]
    grid = np.stack(
        [
            np.tile(np.arange(columns) / (columns - 1), len(rows)),
            np.repeat(np.arange(len(rows)) / (len(rows) - 1), columns),
        ],
        1,
    )
    if not top:
        grid[:, 1] = 1 - grid[:, 1]
    return Piece(name, np.concatenate(rows), triangles, grid)


def tongue(base: int, columns: int = 9, length: int = 12) -> Piece:
    """Upper side of the tongue, lying on the floor of the mouth."""
    u, w = np.meshgrid(np.linspace(0.0, 1.0, columns), np.linspace(0.0, 1.0, length), indexing="ij")
    a = u * np.pi * 0.62
    taper = np.sqrt(np.clip(1 - (1 - np.clip(w / 0.45, 0, 1)) ** 2, 0, 1)) * 0.96 + 0.04
    x = 13.5 * np.sin(a) * taper
    y = -64.5 + 6.0 * np.cos(a) * taper - 0.8 * np.exp(-((x / 2.0) ** 2)) * taper
    z = 83.0 - 28.0 * w
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    points[:length, 0] = 0.0
    index = base + np.arange(columns * length).reshape(columns, length)
    triangles = np.concatenate([strip(index[k], index[k + 1]) for k in range(columns - 1)])
    return Piece("tongue", points, triangles[:, [0, 2, 1]], np.stack([u, 1 - w], -1).reshape(-1, 2))
