"""The lips: their borders, the line between them, their relief, the philtrum."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from .shapes import bump, smoothstep

CORNER_X = 24.8
_STOMION = ([0.0, 4.0, 9.0, 16.0, 21.0, CORNER_X, 60.0], [-52.9, -52.4, -52.1, -52.7, -53.1, -53.5, -53.5])
_UPPER = (
    [0.0, 2.5, 5.6, 9.5, 15.0, 20.0, 23.4, CORNER_X, 60.0],
    [-46.1, -45.4, -44.3, -45.2, -47.9, -50.6, -52.5, -53.45, -53.45],
)
_LOWER = (
    [0.0, 5.0, 11.0, 16.5, 21.0, 23.6, CORNER_X, 60.0],
    [-62.2, -61.9, -60.4, -58.0, -55.6, -54.2, -53.55, -53.55],
)


@cache
def _curve(points: tuple[tuple[float, ...], tuple[float, ...]]) -> PchipInterpolator:
    return PchipInterpolator(*points)


def _eval(points: tuple[list[float], list[float]], x: np.ndarray) -> np.ndarray:
    return _curve((tuple(points[0]), tuple(points[1])))(np.minimum(np.abs(x), 59.0))


def stomion(x: np.ndarray) -> np.ndarray:
    """Height y of the line between the closed lips."""
    return _eval(_STOMION, x)


def upper_border(x: np.ndarray) -> np.ndarray:
    """Height y of the border of the red of the upper lip."""
    return _eval(_UPPER, x)


def lower_border(x: np.ndarray) -> np.ndarray:
    """Height y of the border of the red of the lower lip."""
    return _eval(_LOWER, x)


def lip_coordinate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """0 on the line between the lips, 1 on the upper border, -1 on the lower border, beyond 1 on the skin."""
    mid = stomion(x)
    up = (y - mid) / np.maximum(upper_border(x) - mid, 0.6)
    down = (y - mid) / np.maximum(mid - lower_border(x), 0.6)
    return np.where(y >= mid, up, down)


def slit_gap(x: np.ndarray) -> np.ndarray:
    """Half height by which the layout of the mesh opens the line between the lips; `close` undoes it."""
    return 0.8 * np.clip(1 - (np.abs(x) / CORNER_X) ** 2, 0.0, 1.0) ** 0.6


def close(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Heights y moved toward the line between the lips so that the layout's open slit becomes closed lips."""
    gap = slit_gap(x)
    off = y - stomion(x)
    far = np.maximum(np.abs(off) - gap, 0.0)
    shift = gap * (1 - smoothstep(far, -5.0, 5.0)) * 2.0
    return y - np.sign(off) * np.minimum(np.abs(off), np.minimum(shift, gap))


def relief(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Forward displacement of the lips and the philtrum over the plain muzzle."""
    ax = np.abs(x)
    s = lip_coordinate(x, y)
    span = np.clip(1 - (ax / CORNER_X) ** 2, 0.0, 1.0)
    inside = np.sqrt(span + 1e-12) * (ax < CORNER_X)
    up = s >= 0
    a = np.abs(s)
    body = 1 - smoothstep(a, 0.28, 1.22)
    height = np.where(up, 2.8 * span**0.6, 3.8 * span**0.75)
    z = height * body
    # The red rolls inward toward the slit like a quarter circle, and both lips meet there at one depth.
    roll = np.clip(1 - a / 0.42, 0.0, 1.0)
    turn = (1 - np.sqrt(1 - 0.97 * roll**2)) / (1 - np.sqrt(0.03))
    z = z * (1 - turn) - 0.5 * inside * turn
    # Middle bead of the upper lip, two pillows of the lower lip.
    z = z + (1 - turn) * (0.5 * bump(ax, y, 0.0, -49.3, 3.0, 2.2) + 0.35 * bump(ax, y, 6.5, -57.0, 4.0, 2.6))
    # White roll: the small ridge just outside the border.
    out_up, out_down = y - upper_border(x), lower_border(x) - y
    z = z + 0.45 * np.exp(-0.5 * ((out_up - 0.9) / 0.8) ** 2) * span
    z = z + 0.25 * np.exp(-0.5 * ((out_down - 0.9) / 0.9) ** 2) * span
    # Corners sink in; philtrum between its two columns.
    z = z - 1.3 * bump(ax, y, CORNER_X + 0.6, -53.6, 3.4, 2.6)
    return z - 1.2 * bump(x, y, 0.0, -39.5, 2.5, 5.0) + 0.55 * bump(ax, y, 5.2 + 0.12 * (-39.5 - y), -39.5, 1.9, 5.0)
