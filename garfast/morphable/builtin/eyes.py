"""The eye region: the eyeball, the lids that rest on it, the lid margins and the lid creases."""

from __future__ import annotations

import numpy as np

from .shapes import smooth_max, smoothstep

# The front of the eyeball as a sphere. It is larger than the anatomical 12 mm: only its front cap is seen, and both lid
# corners have to lie on it.
CENTRE = np.array([31.6, 15.5, 70.3])
RADIUS = 14.8
IRIS_RADIUS = 5.9
PUPIL_RADIUS = 2.1

INNER = np.array([17.2, 13.6])
OUTER = np.array([45.4, 16.0])
UPPER_HEIGHT = 5.4
LOWER_HEIGHT = 5.2


def _hump(u: np.ndarray, a: float, b: float) -> np.ndarray:
    u = np.clip(u, 0.0, 1.0)
    peak = a / (a + b)
    return u**a * (1 - u) ** b / (peak**a * (1 - peak) ** b)


def upper_lid(x: np.ndarray) -> np.ndarray:
    """Height y of the upper lid margin at x (subject's left eye), the straight line between the corners outside."""
    u = (x - INNER[0]) / (OUTER[0] - INNER[0])
    return INNER[1] + u * (OUTER[1] - INNER[1]) + UPPER_HEIGHT * _hump(u, 0.66, 0.80)


def lower_lid(x: np.ndarray) -> np.ndarray:
    """Height y of the lower lid margin at x (subject's left eye)."""
    u = (x - INNER[0]) / (OUTER[0] - INNER[0])
    return INNER[1] + u * (OUTER[1] - INNER[1]) - LOWER_HEIGHT * _hump(u, 0.86, 0.74)


def inside_opening(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether the frontal position lies between the lid margins."""
    x = np.abs(x)
    return (x > INNER[0]) & (x < OUTER[0]) & (y < upper_lid(x)) & (y > lower_lid(x))


def ball_height(x: np.ndarray, y: np.ndarray, offset: float) -> np.ndarray:
    """z of the sphere of radius RADIUS + offset around the eye at x >= 0; falls off steeply outside the sphere."""
    r2 = (x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2
    r = RADIUS + offset
    inner = np.minimum(r2, (0.96 * r) ** 2)
    z = CENTRE[2] + np.sqrt(r * r - inner)
    return z - 2.5 * (np.sqrt(np.maximum(r2, 1e-9)) - np.sqrt(inner))


def add_lids(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Union of the face's height z(x, y) with the lids lying on the eyeball, with the folds above and below."""
    ax = np.abs(x)
    # The skin of the lid thickens from the margin outward.
    above = np.maximum(y - upper_lid(ax), 0.0)
    below = np.maximum(lower_lid(ax) - y, 0.0)
    thick = 1.35 + 0.9 * smoothstep(above, 0.0, 7.0) + 0.4 * smoothstep(below, 0.0, 6.0)
    lid = ball_height(ax, y, 0.0) + thick
    out = smooth_max(z, lid, 2.8 + 4.2 * smoothstep(CENTRE[1] - 1.0 - y, 0.0, 8.0))
    u = (ax - INNER[0]) / (OUTER[0] - INNER[0])
    along = smoothstep(u, -0.05, 0.25) * (1 - smoothstep(u, 0.85, 1.25))
    # Upper fold: a narrow groove 7 mm above the margin with the soft tissue of the brow hanging over it.
    fold = upper_lid(np.clip(ax, INNER[0] + 2, OUTER[0] - 1)) + 4.6 + 1.6 * np.sin(np.pi * np.clip(u, 0, 1)) - y
    out = out - along * 0.8 * np.exp(-0.5 * (fold / 1.1) ** 2)
    out = out + along * 0.8 * np.exp(-0.5 * ((fold + 3.4) / 2.4) ** 2)
    # Lower fold, fainter.
    bag = lower_lid(np.clip(ax, INNER[0] + 2, OUTER[0] - 1)) - 6.5 - y
    return out - along * 0.45 * np.exp(-0.5 * (bag / 1.6) ** 2)
