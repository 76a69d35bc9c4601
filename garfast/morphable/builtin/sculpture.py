"""The whole sculpture: broad forms of the face on the lofted head, then lids, lips and nose."""

from __future__ import annotations

import numpy as np

from . import eyes, mouth, nose
from .head import base_surface, level_range
from .shapes import bump, smoothstep

# Level of the lower border of the jaw, counted from the lower end of the neck.
_JAW_LEVEL_FROM_END = 105.0


def broad_forms(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Forward displacement of brow, sockets, cheeks, muzzle and chin over the lofted head at frontal position x, y."""
    a = np.abs(x)
    z = 0.9 * bump(a, y, 0, 34, 13, 8.5) + 0.9 * bump(a, y, 0, 25.0, 10, 5) - 0.6 * bump(a, y, 0, 17.0, 9, 5)
    z += 1.9 * bump(a, y, 23, 35.5, 13, 7.5, 6) + 1.9 * bump(a, y, 45, 33.0, 9, 7.5, -18)
    z += 0.8 * bump(a, y, 26, 66, 16, 14) + 1.8 * bump(a, y, 15, 27, 6, 5.5)
    z -= 9.6 * bump(a, y, 16.2, 11.0, 7.2, 8.4) + 2.4 * bump(a, y, 32, 22, 12, 6.0)
    z += 4.4 * bump(a, y, 46, -5, 12, 9, 25) + 3.4 * bump(a, y, 33, -18, 13, 12)
    z += 1.8 * bump(a, y, 34, 2.5, 11, 4.5) + 1.0 * bump(a, y, 49, 11, 5, 6) - 0.9 * bump(a, y, 20, 1, 6, 7)
    z -= 2.2 * bump(a, y, 49, -42, 11, 15)
    z += 5.2 * bump(a, y, 0, -43, 22, 17)
    z += 4.6 * bump(a, y, 0, -84.5, 14, 9.0) - 3.0 * bump(a, y, 0, -70, 16, 5.0)
    # Nasolabial fold: from beside the wing of the nose to beside the mouth corner.
    t = np.clip((-22 - y) / 34.0, 0.0, 1.0)
    line = 20.5 + 12.0 * t
    along = smoothstep(y, -56, -38) * (1 - smoothstep(y, -30, -18))
    side = a - line
    return z + along * (-0.8 * np.exp(-0.5 * (side / 3.2) ** 2) + 0.7 * np.exp(-0.5 * ((side - 7.0) / 5.5) ** 2))


def side_forms(theta: np.ndarray, level: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Outward displacement of jaw line, cheek arch and neck muscles over the lofted head."""
    turn = np.degrees(np.abs(theta))
    edge = level_range() - _JAW_LEVEL_FROM_END
    jaw = smoothstep(turn, 12.0, 34.0) * (1 - smoothstep(turn, 58.0, 84.0))
    out = jaw * (
        1.2 * np.exp(-0.5 * ((level - edge + 2) / 8.5) ** 2) - 1.3 * np.exp(-0.5 * ((level - edge - 18) / 10) ** 2)
    )
    # The ramus of the jaw rises from its angle toward the ear, with a hollow behind it.
    ramus = smoothstep(y, -66.0, -50.0) * (1 - smoothstep(y, -34.0, -12.0))
    out += ramus * (0.8 * np.exp(-0.5 * ((turn - 70.0) / 9.0) ** 2) - 1.2 * np.exp(-0.5 * ((turn - 94.0) / 9.0) ** 2))
    arch = smoothstep(turn, 44.0, 60.0) * (1 - smoothstep(turn, 66.0, 94.0))
    out += arch * (1.0 * np.exp(-0.5 * ((y - 2.0) / 5.5) ** 2) - 0.8 * np.exp(-0.5 * ((y + 16.0) / 9.0) ** 2))
    # The muscle from behind the ear to the breastbone, and the larynx.
    path = 22.0 + 73.0 * np.clip((y + 158.0) / 98.0, 0.0, 1.2)
    neck = 1 - smoothstep(y, -92.0, -66.0)
    out += neck * (
        2.0 * np.exp(-0.5 * ((turn - path) / 9.0) ** 2) - 1.2 * np.exp(-0.5 * ((turn - path + 22) / 11) ** 2)
    )
    return out + 2.2 * np.exp(-0.5 * ((turn / 9.0) ** 2 + ((y + 130.0) / 8.0) ** 2))


def surface(theta: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Points [N, 3] of the sculpted head, its eyes closed."""
    p = base_surface(theta, level)
    p[:, [0, 2]] += side_forms(theta, level, p[:, 1])[:, None] * np.stack([np.sin(theta), np.cos(theta)], 1)
    x, y = p[:, 0].copy(), p[:, 1].copy()
    y = np.where(p[:, 2] > 30, mouth.close(x, y), y)
    p[:, 1] = y
    front = smoothstep(p[:, 2], 5.0, 40.0) * (y > -105)
    z = p[:, 2] + front * broad_forms(x, y)
    z = eyes.add_lids(x, y, z) * (front > 0) + z * (front <= 0)
    z = z + front * mouth.relief(x, y)
    p[:, 2] = z
    return nose.raise_nose(p)
