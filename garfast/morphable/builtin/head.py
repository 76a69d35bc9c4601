"""The head without its features: a lofted skull, face, jaw and neck.

The surface is a loft over a table of levels from the crown down to the neck. A level is a curve around the head that
passes through a point on the front midline, a point on the side and a point on the back midline; between them it
follows a superellipse. The numbers are millimetres in the frame of the built-in face (x to the subject's left, y up, z
forward, origin between the ear points), chosen so that the distances agree with the published means in `facts.py`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from .shapes import smoothstep

# front y, front z | side x, y, z | back y, z | exponent of the front half, of the back half
_LEVELS = np.array(
    [
        [130.0, -10.0, 0.0, 130.0, -10.0, 130.0, -10.0, 2.0, 2.0],
        [125.0, 28.0, 36.5, 124.5, -12.0, 125.0, -50.0, 2.0, 2.0],
        [110.0, 58.0, 56.5, 108.0, -14.0, 108.0, -78.0, 2.05, 2.05],
        [86.0, 79.5, 68.0, 86.0, -16.0, 82.0, -94.0, 2.15, 2.1],
        [60.0, 90.5, 73.8, 60.0, -17.0, 54.0, -100.0, 2.15, 2.1],
        [34.0, 94.0, 74.8, 36.0, -15.0, 26.0, -101.0, 2.2, 2.1],
        [14.0, 89.5, 73.8, 16.0, -11.0, 6.0, -97.0, 2.3, 2.1],
        [-6.0, 91.0, 72.5, -4.0, -6.0, -12.0, -90.0, 2.3, 2.1],
        [-30.0, 98.0, 69.5, -22.0, -3.0, -28.0, -82.0, 2.15, 2.1],
        [-52.0, 99.5, 66.0, -36.0, -2.0, -44.0, -75.0, 2.0, 2.1],
        [-74.0, 96.5, 62.0, -46.0, -2.0, -56.0, -70.0, 1.9, 2.1],
        [-90.0, 92.5, 61.4, -53.0, -2.0, -64.0, -67.0, 1.88, 2.1],
        [-98.0, 83.0, 58.5, -58.0, -3.0, -70.0, -66.0, 1.88, 2.1],
        [-99.5, 66.5, 55.5, -63.0, -5.0, -77.0, -65.0, 2.0, 2.1],
        [-103.5, 47.0, 54.0, -70.0, -8.0, -86.0, -64.5, 2.1, 2.1],
        [-119.0, 37.5, 53.0, -92.0, -14.0, -104.0, -65.0, 2.1, 2.1],
        [-139.0, 34.0, 54.0, -120.0, -17.0, -126.0, -68.0, 2.1, 2.1],
        [-160.0, 30.0, 57.5, -150.0, -19.0, -150.0, -73.0, 2.1, 2.1],
    ]
)

# Behind the jaw the side of the head runs down into the neck without the jaw's edge: half width x at height y.
_NAPE = PchipInterpolator(
    [-150.0, -120.0, -92.0, -70.0, -60.0, -53.0, -46.0, -36.0, -22.0, -4.0, 16.0],
    [57.5, 54.0, 53.0, 54.4, 55.8, 57.6, 60.0, 64.0, 68.8, 72.5, 73.8],
)


@cache
def level_spline() -> tuple[CubicSpline, np.ndarray]:
    """Spline through the level table over the arc length of the front midline, and its knots."""
    front = _LEVELS[:, :2]
    step = np.linalg.norm(np.diff(front, axis=0), axis=1)
    knots = np.concatenate([[0.0], np.cumsum(step)])
    # Through the crown the widths are odd and everything else is even, so the pole is smooth.
    mirrored = _LEVELS[1:4][::-1].copy()
    mirrored[:, 2] *= -1
    mirrored[:, [1, 6]] = 2 * _LEVELS[0, 1] - mirrored[:, [1, 6]]
    table = np.concatenate([mirrored, _LEVELS])
    return CubicSpline(np.concatenate([-knots[1:4][::-1], knots]), table, bc_type="natural"), knots


def level_range() -> float:
    """Largest level coordinate (the lower end of the neck); the crown is at 0."""
    return float(level_spline()[1][-1])


def _side_share(theta: np.ndarray) -> np.ndarray:
    return np.abs(np.sin(theta)) ** 3.4


def base_surface(theta: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Points [..., 3] of the featureless head.

    theta: azimuth in radians, 0 on the front midline, positive to the subject's left, pi on the back midline.
    level: arc length in mm along the front midline, 0 at the crown.
    """
    front_y, front_z, side_x, side_y, side_z, back_y, back_z, n_front, n_back = np.moveaxis(
        level_spline()[0](level), -1, 0
    )
    s, c = np.sin(theta), np.cos(theta)
    front = c >= 0
    n = np.where(front, n_front, n_back)
    # The superellipse in angle form: radius of the unit superellipse in direction (s, c).
    r = (np.abs(s) ** n + np.abs(c) ** n + 1e-12) ** (-1.0 / n)
    share = _side_share(theta)
    behind = smoothstep(np.degrees(np.abs(theta)), 74.0, 112.0) * (1 - smoothstep(side_y, -24.0, 12.0))
    side_x = side_x + behind * (_NAPE(np.clip(side_y, -150.0, 16.0)) - side_x)
    x = side_x * r * s
    z = side_z + np.where(front, front_z - side_z, side_z - back_z) * r * c
    y = np.where(front, front_y, back_y) * (1 - share) + side_y * share
    return np.stack([x, y, z], axis=-1)


def locate(x: np.ndarray, y: np.ndarray, steps: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (theta, level) of the points on the front of the featureless head at frontal position x, y."""
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    theta = np.arcsin(np.clip(x / 75.0, -0.95, 0.95))
    knots = level_spline()[1]
    level = np.interp(-y, -_LEVELS[:, 0], knots)
    h = 1e-3
    for _ in range(steps):
        p = base_surface(theta, level)[..., :2]
        dt = (base_surface(theta + h, level)[..., :2] - p) / h
        dl = (base_surface(theta, level + h)[..., :2] - p) / h
        rx, ry = x - p[..., 0], y - p[..., 1]
        det = dt[..., 0] * dl[..., 1] - dt[..., 1] * dl[..., 0]
        det = np.where(np.abs(det) < 1e-6, 1e-6, det)
        a = (rx * dl[..., 1] - ry * dl[..., 0]) / det
        b = (dt[..., 0] * ry - dt[..., 1] * rx) / det
        theta = np.clip(theta + np.clip(a, -0.3, 0.3), -1.5, 1.5)
        level = np.clip(level + np.clip(b, -15, 15), 1.0, level_range())
    return theta, level
