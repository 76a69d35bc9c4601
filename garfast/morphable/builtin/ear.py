"""The outer ear: a relief over a tilted plane, inside a drawn outline, closed behind toward the head."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from .parts import Piece, strip
from .shapes import smoothstep

# Outline in the plane of the ear: mm backward from the tragus, mm upward, anticlockwise seen from the subject's left
# with the face to the left, starting at the back.
_OUTLINE = np.array(
    [
        [33.0, 4.0],
        [33.5, 15.0],
        [29.5, 25.5],
        [20.5, 31.5],
        [10.0, 30.5],
        [2.5, 24.5],
        [-1.0, 14.5],
        [-2.5, 3.0],
        [-2.0, -9.0],
        [-0.5, -20.0],
        [1.5, -28.5],
        [8.0, -33.5],
        [15.5, -31.0],
        [21.0, -23.0],
        [28.5, -10.0],
    ]
)
_CONCHA = np.array([11.5, -2.0])
_ORIGIN = np.array([71.6, 1.0, 3.5])
_FLARE, _LEAN = np.radians(23.0), np.radians(14.0)
_AROUND, _RINGS = 56, 17


def _axes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    up = np.array([0.0, np.cos(_LEAN), -np.sin(_LEAN)])
    back = np.array([np.sin(_FLARE), -np.cos(_FLARE) * np.sin(_LEAN), -np.cos(_FLARE) * np.cos(_LEAN)])
    back -= up * (back @ up)
    back /= np.linalg.norm(back)
    return back, up, np.cross(up, -back)


def _arc(angle: np.ndarray, start: float, stop: float, soft: float) -> np.ndarray:
    """1 between two directions (degrees), soft at the ends."""
    middle, half = np.radians(0.5 * (start + stop)), np.radians(0.5 * (stop - start))
    off = np.abs(np.angle(np.exp(1j * (angle - middle))))
    return 1 - smoothstep(off, half - np.radians(soft), half + np.radians(soft))


def _relief(r: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Height over the plane at the share r of the way from the concha to the outline."""

    def ridge(at: np.ndarray | float, width: float) -> np.ndarray:
        return np.exp(-0.5 * ((r - at) / width) ** 2)

    helix = _arc(angle, -42.0, 160.0, 22.0)
    lobe = _arc(angle, -125.0, -62.0, 22.0)
    antihelix = _arc(angle, -68.0, 92.0, 24.0)
    front = _arc(angle, 158.0, 222.0, 14.0)
    h = -5.0 * (1 - smoothstep(r, 0.18, 0.52)) * (1 - 0.6 * lobe)
    h = h + 4.6 * antihelix * ridge(0.60 + 0.04 * np.sin(2 * angle), 0.085)
    h = h - 2.6 * helix * ridge(0.79, 0.065)
    h = h + 3.8 * helix * ridge(0.93, 0.06)
    h = h + 1.6 * lobe * ridge(0.72, 0.20)
    # Root of the helix running into the concha, tragus and antitragus around the notch.
    h = h + 4.2 * np.exp(-0.5 * (((angle - np.radians(152.0)) / 0.22) ** 2 + ((r - 0.42) / 0.22) ** 2))
    h = h + 5.6 * np.exp(
        -0.5 * ((np.angle(np.exp(1j * (angle - np.radians(186.0)))) / 0.36) ** 2 + ((r - 0.68) / 0.20) ** 2)
    )
    h = h + 3.6 * np.exp(
        -0.5 * ((np.angle(np.exp(1j * (angle - np.radians(-72.0)))) / 0.30) ** 2 + ((r - 0.46) / 0.10) ** 2)
    )
    return h - 2.0 * front * smoothstep(r, 0.75, 1.0)


def ear(base: int) -> Piece:
    """The ear of the subject's left."""
    knots = np.arange(len(_OUTLINE) + 1)
    outline = CubicSpline(knots, np.concatenate([_OUTLINE, _OUTLINE[:1]]), bc_type="periodic")(
        np.arange(_AROUND) * len(_OUTLINE) / _AROUND
    )
    reach = outline - _CONCHA
    angle = np.arctan2(reach[:, 1], reach[:, 0])
    r = np.concatenate([np.linspace(0.1, 0.88, _RINGS - 5), [0.915, 0.945, 0.97, 0.99, 1.0]])
    rr, aa = np.meshgrid(r, angle, indexing="ij")
    height = _relief(rr, aa)
    # The rim rolls over.
    height = height - 1.8 * np.clip((rr - 0.93) / 0.07, 0, 1) ** 2
    plane = _CONCHA + rr[..., None] * reach
    rings = [np.concatenate([plane, height[..., None]], -1)]
    for share, depth in ((0.985, -2.6), (0.93, -4.2), (0.80, -7.0), (0.62, -13.0)):
        back = np.concatenate([_CONCHA + share * reach, np.full((_AROUND, 1), depth)], -1)
        rings.append(back[None])
    local = np.concatenate(rings)
    back_axis, up, out = _axes()
    frame = np.stack([back_axis, up, out])
    points = _ORIGIN + local.reshape(-1, 3) @ frame
    # In front the ear sinks into the head.
    sink = smoothstep(local[..., 0].reshape(-1), 6.0, -3.0)
    points = points - sink[:, None] * np.array([4.4, 0.0, 0.0])
    centre = _ORIGIN + np.array([*_CONCHA, _relief(np.zeros(1), np.zeros(1))[0] - 0.3]) @ frame
    rows = [base + 1 + k * _AROUND + np.arange(_AROUND) for k in range(len(local))]
    fan = np.stack([np.full(_AROUND, base), rows[0], np.roll(rows[0], -1)], 1)
    bands = [strip(rows[k], rows[k + 1], closed=True)[:, [0, 2, 1]] for k in range(len(rows) - 1)]
    spread = np.concatenate([r * 0.82, [0.86, 0.91, 0.96, 1.0]])
    flat = 0.5 + 0.5 * spread[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    grid = np.concatenate([[[0.5, 0.5]], flat.reshape(-1, 2)])
    return Piece("ear", np.concatenate([centre[None], points]), np.concatenate([fan, *bands]), grid)
