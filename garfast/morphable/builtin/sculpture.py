"""The whole sculpture: broad forms of the face on the lofted head, then lids, lips and nose."""

from __future__ import annotations

import numpy as np

from . import eyes, mouth, nose
from .head import base_surface
from .shapes import bump, smoothstep


def broad_forms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Forward displacement of brow, sockets, cheeks, muzzle and chin over the lofted head at frontal position x, y."""
    a = np.abs(x)
    z = 2.2 * bump(a, y, 0, 32, 11, 7)
    z += 3.2 * bump(a, y, 22, 33.5, 11, 4.6, 6) + 3.0 * bump(a, y, 43, 32.0, 9, 5.0, -18)
    z += 0.8 * bump(a, y, 26, 66, 14, 12)
    z -= 10.0 * bump(a, y, 18.5, 13.5, 7.0, 9.0) + 4.5 * bump(a, y, 33, 20, 10, 5.5)
    z += 3.6 * bump(a, y, 46, -6, 11, 8, 25) + 2.6 * bump(a, y, 33, -18, 13, 11)
    z -= 1.6 * bump(a, y, 21, 1, 6, 6)
    z -= 2.4 * bump(a, y, 50, -42, 9, 13)
    z += 4.8 * bump(a, y, 0, -43, 21, 16)
    z += 5.0 * bump(a, y, 0, -84.5, 13, 8.0) - 3.2 * bump(a, y, 0, -70, 15, 4.6)
    # Nasolabial fold: from beside the wing of the nose to beside the mouth corner.
    t = np.clip((-22 - y) / 34.0, 0.0, 1.0)
    line = 19.5 + 13.5 * t**0.8
    along = smoothstep(y, -62, -44) * (1 - smoothstep(y, -26, -18))
    side = a - line
    return z + along * (-0.9 * np.exp(-0.5 * (side / 2.2) ** 2) + 0.9 * np.exp(-0.5 * ((side - 5.5) / 4.5) ** 2))


def surface(theta: np.ndarray, level: np.ndarray, closed_eyes: bool = True) -> np.ndarray:
    """Points [N, 3] of the sculpted head; where the lids are open the surface is that of the eyeball if not closed."""
    p = base_surface(theta, level)
    x, y = p[:, 0].copy(), p[:, 1].copy()
    y = np.where(p[:, 2] > 30, mouth.close(x, y), y)
    p[:, 1] = y
    front = smoothstep(p[:, 2], 5.0, 40.0) * (y > -105)
    z = p[:, 2] + front * broad_forms(x, y)
    z = eyes.add_lids(x, y, z) * (front > 0) + z * (front <= 0)
    z = z + front * mouth.relief(x, y)
    if not closed_eyes:
        hole = eyes.inside_opening(x, y) & (p[:, 2] > 20)
        z = np.where(hole, eyes.ball_height(np.abs(x), y, 0.0), z)
    p[:, 2] = z
    return nose.raise_nose(p)
