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
    ridge = round_cone(q, (0, 18, 86.2), (0, 3, 96.0), 4.7, 6.4)
    ridge = smooth_min(ridge, round_cone(q, (0, 3, 96.0), (0, -15, 108.0), 6.4, 7.2), 5.0)
    flank = round_cone(q, (0, 20, 71.0), (2.5, -15, 91.5), 6.4, 12.6)
    f = smooth_min(ridge, flank, 9.0)
    # Tip: two domes; wing: a ball drawn forward; column between the nostrils.
    f = smooth_min(f, ellipsoid(q, (2.8, -18.8, 111.4), (8.2, 9.2, 9.2)), 6.0)
    wing = round_cone(q, (11.6, -22.6, 98.0), (8.0, -20.6, 109.5), 5.9, 5.6)
    f = smooth_min(f, wing, 4.5)
    column = round_cone(q, (0, -23.2, 114.0), (0, -25.2, 102.0), 3.4, 3.9)
    f = smooth_min(f, column, 3.5)
    return smooth_max(f, -nostril(q), 1.6)


def nostril(q: np.ndarray) -> np.ndarray:
    """Signed distance (approximate) to the nostril's cavity on the side x > 0."""
    axis = np.array([0.42, -0.18, -0.89])
    axis /= np.linalg.norm(axis)
    side = np.cross([0.0, 1.0, 0.0], axis)
    side /= np.linalg.norm(side)
    frame = np.stack([axis, side, np.cross(axis, side)])
    return ellipsoid(q, (6.9, -27.0, 106.6), (5.2, 2.7, 6.5), frame)


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


def raise_nose(p: np.ndarray, steps: int = 60) -> np.ndarray:
    """Points of the union of the face, given by p [N, 3] on it, and the nose, found along the rays of `ray_tilt`."""
    out = p.copy()
    near = np.flatnonzero(near_nose(p[:, 0], p[:, 1]))
    start = p[near]
    ray = ray_tilt(start[:, 0], start[:, 1])
    # The bridge runs softly into the cheeks, the wing ends in a crease.
    fillet = 3.0 + 8.0 * smoothstep(start[:, 1], -19.0, -2.0) * (1 - 0.5 * smoothstep(start[:, 1], 2.0, 18.0))

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
