"""The nose: a smooth union of solids, met by rays that fan out from the face behind it."""

from __future__ import annotations

import numpy as np

from .shapes import ellipsoid, round_cone, smooth_max, smooth_min, smoothstep

_REACH = 46.0


def distance(p: np.ndarray) -> np.ndarray:
    """Signed distance (approximate) to the nose, nostrils carved out; p [..., 3]."""
    q = p.copy()
    q[..., 0] = np.sqrt(p[..., 0] ** 2 + 0.05)
    # Bony and cartilage bridge, and the wider pyramid it stands on.
    ridge = round_cone(q, (0, 22, 84.5), (0, 2, 95.6), 7.3, 8.2)
    ridge = smooth_min(ridge, round_cone(q, (0, 2, 95.6), (0, -15, 107.2), 8.2, 8.2), 4.0)
    flank = round_cone(q, (0, 20, 76.0), (2.0, -16, 92.0), 8.5, 13.0)
    f = smooth_min(ridge, flank, 6.0)
    # Tip: two domes; wing: a ball drawn forward; column between the nostrils.
    f = smooth_min(f, ellipsoid(q, (3.0, -20.0, 112.4), (7.6, 7.6, 8.6)), 4.0)
    wing = round_cone(q, (12.6, -24.2, 98.0), (9.0, -21.5, 109.0), 4.9, 5.0)
    f = smooth_min(f, wing, 2.6)
    column = round_cone(q, (0, -24.5, 114.0), (0, -27.6, 102.0), 3.6, 3.9)
    f = smooth_min(f, column, 3.0)
    axis = np.array([0.42, -0.18, -0.89])
    axis /= np.linalg.norm(axis)
    side = np.cross([0.0, 1.0, 0.0], axis)
    side /= np.linalg.norm(side)
    frame = np.stack([axis, side, np.cross(axis, side)])
    hole = ellipsoid(q, (7.0, -28.0, 107.2), (5.4, 2.7, 6.5), frame)
    return smooth_max(f, -hole, 1.6)


def ray_tilt(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Direction [..., 3] in which the face is searched for the nose's surface from the frontal position x, y."""
    dx = x
    dy = np.minimum(y + 15.0, 0.0)
    r = np.hypot(dx, dy)
    size = 1.3 * np.tanh(r / 9.0) * (1 - smoothstep(r, 15.0, 34.0))
    size = size * (1 - 0.75 * smoothstep(y, -14.0, 8.0))
    scale = size / np.maximum(r, 1e-6)
    d = np.stack([dx * scale, dy * scale, np.ones_like(x)], axis=-1)
    return d / np.linalg.norm(d, axis=-1, keepdims=True)


def near_nose(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the nose can reach the face at the frontal position x, y."""
    return (np.abs(x) < 36.0) & (y > -52.0) & (y < 42.0)


def raise_nose(p: np.ndarray, fillet: float = 5.0, steps: int = 60) -> np.ndarray:
    """Points of the union of the face, given by p [N, 3] on it, and the nose, found along the rays of `ray_tilt`."""
    out = p.copy()
    near = np.flatnonzero(near_nose(p[:, 0], p[:, 1]))
    start = p[near]
    ray = ray_tilt(start[:, 0], start[:, 1])

    def field(height: np.ndarray) -> np.ndarray:
        return smooth_min(0.85 * height, distance(start + height[:, None] * ray), fillet)

    height = np.full(len(near), _REACH)
    for _ in range(steps):
        height = np.maximum(height - 0.7 * np.maximum(field(height), 0.0), -8.0)
    low, high = height - 0.4, height + 0.2
    for _ in range(20):
        mid = 0.5 * (low + high)
        outside = field(mid) > 0
        high = np.where(outside, mid, high)
        low = np.where(outside, low, mid)
    out[near] = start + (0.5 * (low + high))[:, None] * ray
    return out
