"""Small smooth building blocks of the sculpture: falloffs, smooth unions, distance functions."""

from __future__ import annotations

import numpy as np


def smoothstep(x: np.ndarray, low: float, high: float | np.ndarray) -> np.ndarray:
    """Quintic step (C2) from 0 at `low` to 1 at `high`; `low` may exceed `high`."""
    t = np.clip((np.asarray(x, float) - low) / (high - low), 0.0, 1.0)
    return t * t * t * (t * (6 * t - 15) + 10)


def bump(
    x: np.ndarray, y: np.ndarray, cx: float | np.ndarray, cy: float, rx: float, ry: float, turn: float = 0.0
) -> np.ndarray:
    """Gaussian of height 1 at (cx, cy) with standard deviations rx, ry, turned by `turn` degrees."""
    a = np.radians(turn)
    dx, dy = x - cx, y - cy
    u, v = np.cos(a) * dx + np.sin(a) * dy, -np.sin(a) * dx + np.cos(a) * dy
    return np.exp(-0.5 * ((u / rx) ** 2 + (v / ry) ** 2))


def smooth_min(a: np.ndarray, b: np.ndarray, k: float | np.ndarray) -> np.ndarray:
    """Smallest of a and b with a fillet of width about k."""
    h = np.maximum(k - np.abs(a - b), 0.0) / k
    return np.minimum(a, b) - h * h * h * k / 6.0


def smooth_max(a: np.ndarray, b: np.ndarray, k: float | np.ndarray) -> np.ndarray:
    """Largest of a and b with a fillet of width about k."""
    return -smooth_min(-a, -b, k)


def round_cone(p: np.ndarray, a: tuple, b: tuple, ra: float, rb: float) -> np.ndarray:
    """Signed distance (approximate where the radii differ) to a capsule whose radius runs from ra to rb."""
    start = np.asarray(a, float)
    ab = np.asarray(b, float) - start
    t = np.clip(((p - start) @ ab) / (ab @ ab), 0.0, 1.0)
    return np.linalg.norm(p - start - t[..., None] * ab, axis=-1) - (ra + (rb - ra) * t)


def ellipsoid(p: np.ndarray, centre: tuple, radii: tuple, axes: np.ndarray | None = None) -> np.ndarray:
    """Signed distance (first order) to an ellipsoid; `axes` holds its axes as rows."""
    q = p - np.asarray(centre, float)
    if axes is not None:
        q = q @ np.asarray(axes, float).T
    r = np.asarray(radii, float)
    k0 = np.linalg.norm(q / r, axis=-1)
    k1 = np.linalg.norm(q / (r * r), axis=-1)
    return k0 * (k0 - 1.0) / np.maximum(k1, 1e-9)
