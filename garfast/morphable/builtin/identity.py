"""Identity modes: smooth deformation fields of the mean face, one for each way in which faces differ.

A field moves every point of space near the face, so that skin, lids, teeth and the inside of the mouth move together;
the eyeballs and the lids that lie on them are then made to move rigidly. The modes named after a measurement of
`facts.py` are scaled so that the spread of the measurement over random faces is the published one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import anatomy, eyes, facts
from .assembly import Assembly
from .shapes import smoothstep

Field = Callable[[np.ndarray], np.ndarray]


def _field(
    p: np.ndarray, x: np.ndarray | float = 0.0, y: np.ndarray | float = 0.0, z: np.ndarray | float = 0.0
) -> np.ndarray:
    out = np.zeros_like(p)
    out[:, 0], out[:, 1], out[:, 2] = x, y, z
    return out


def _ball(p: np.ndarray, cx: float, cy: float, cz: float, rx: float, ry: float, rz: float) -> np.ndarray:
    """Gaussian on both sides of the face."""
    q = (np.abs(p[:, 0]) - cx) / rx
    return np.exp(-0.5 * (q**2 + ((p[:, 1] - cy) / ry) ** 2 + ((p[:, 2] - cz) / rz) ** 2))


def _band(v: np.ndarray, a: float, b: float, c: float, d: float) -> np.ndarray:
    """Rises from a to b, falls from c to d."""
    return smoothstep(v, a, b) * (1 - smoothstep(v, c, d))


def _nose(p: np.ndarray, end: float = -46.0) -> np.ndarray:
    """Soft mask of the nose, fading out over the upper lip down to the height `end`."""
    across = 1 - smoothstep(np.abs(p[:, 0]), 12.0, 32.0)
    return across * _band(p[:, 1], end, -27.0, 12.0, 36.0) * smoothstep(p[:, 2], 78.0, 98.0)


def _lips(p: np.ndarray, reach: float = 1.0) -> np.ndarray:
    """Soft mask of the lips and the tissue behind them."""
    return np.exp(-0.5 * ((p[:, 0] / (19 * reach)) ** 4 + ((p[:, 1] + 53) / (12 * reach)) ** 4)) * smoothstep(
        p[:, 2], 72.0, 90.0
    )


def _sag(p: np.ndarray) -> np.ndarray:
    """Sideways push that grows with distance from the middle and saturates."""
    return np.tanh(p[:, 0] / 45.0)


def _side(p: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Sideways push of the sides only."""
    return np.sign(p[:, 0]) * smoothstep(np.abs(p[:, 0]), start, stop)


def _outward(p: np.ndarray) -> np.ndarray:
    d = p - np.array([0.0, -20.0, 10.0])
    d[:, 1] *= 0.6
    return d / np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1.0)


def _front(p: np.ndarray) -> np.ndarray:
    return smoothstep(p[:, 2], 10.0, 60.0)


def _above(p: np.ndarray, low: float, high: float) -> np.ndarray:
    return smoothstep(p[:, 1], low, high)


def _nose_tip_turn(p: np.ndarray) -> np.ndarray:
    w = _nose(p) * (1 - smoothstep(p[:, 1], -14.0, 6.0))
    a = np.radians(6.0)
    return _field(p, y=w * a * (p[:, 2] - 96.0), z=-w * a * 0.5 * (p[:, 1] + 24.0))


def _lower_stretch(p: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Downward shift growing from 0 at start to 1 at stop, fading out down the neck and at the back of the head."""
    return -smoothstep(p[:, 1], start, stop) * smoothstep(p[:, 1], -175.0, -115.0) * smoothstep(p[:, 2], -40.0, 40.0)


MODES: dict[str, Field] = {
    "size": lambda p: 0.022 * p,
    "sex": lambda p: _masculine(p),
    "adiposity": lambda p: (
        _outward(p)
        * (
            2.4 * _ball(p, 48, -38, 55, 20, 22, 30)
            + 3.0 * _ball(p, 40, -82, 40, 24, 16, 30)
            + 2.6 * _ball(p, 0, -104, 62, 26, 12, 24)
            + 2.6 * _ball(p, 50, -120, 0, 40, 35, 60)
            + 1.0 * _ball(p, 55, 5, 50, 14, 16, 20)
        )[:, None]
    ),
    "face_width": lambda p: _field(
        p, x=3.0 * _side(p, 26, 66) * _band(p[:, 1], -75, -5, 10, 55) * smoothstep(p[:, 2], -30, 30)
    ),
    "jaw_width": lambda p: _field(
        p, x=3.0 * _side(p, 24, 58) * _band(p[:, 1], -125, -75, -60, -8) * smoothstep(p[:, 2], -45, 0)
    ),
    "head_breadth": lambda p: _field(p, x=3.0 * _sag(p) * _above(p, -20, 40) * (1 - smoothstep(p[:, 2], 15, 80))),
    "forehead_width": lambda p: _field(p, x=3.0 * _sag(p) * _above(p, -12, 58) * smoothstep(p[:, 2], 0, 60)),
    "face_height": lambda p: _field(p, y=3.0 * _lower_stretch(p, 24.0, -98.0)),
    "nose_length": lambda p: _field(
        p, y=-2.0 * _nose(p, -64.0) * (1 - smoothstep(p[:, 1], -27.0, 22.0)) * np.exp(-0.5 * (p[:, 0] / 34) ** 4)
    ),
    "upper_lip_height": lambda p: _field(
        p, y=-1.5 * np.exp(-0.5 * (p[:, 0] / 22) ** 2) * _band(p[:, 1], -100, -62, -47, -31) * _front(p)
    ),
    "chin_height": lambda p: _field(p, y=2.2 * _lower_stretch(p, -60.0, -92.0) * np.exp(-0.5 * (p[:, 0] / 30) ** 2)),
    "nose_breadth": lambda p: _field(
        p, x=2.0 * np.tanh(p[:, 0] / 11.0) * _nose(p) * (1 - smoothstep(p[:, 1], -18.0, 0.0))
    ),
    "nose_protrusion": lambda p: _field(
        p, z=2.0 * smoothstep(p[:, 2], 91.0, 119.0) * _nose(p) * (1 - smoothstep(p[:, 1], -24.0, 22.0) ** 1.5)
    ),
    "nose_root_breadth": lambda p: _field(p, x=1.2 * np.tanh(p[:, 0] / 7.0) * _ball(p, 7, 14, 86, 8, 13, 14)),
    "nose_tip_up": _nose_tip_turn,
    "nose_hump": lambda p: _field(p, z=1.7 * np.exp(-0.5 * (p[:, 0] / 8) ** 2) * _ball(p, 0, 0, 102, 20, 9, 25)),
    "nose_root_depth": lambda p: _field(
        p, z=-1.8 * np.exp(-0.5 * (p[:, 0] / 11) ** 2) * _ball(p, 0, 19, 92, 20, 9, 25)
    ),
    "nose_ridge_width": lambda p: _field(p, x=1.0 * np.tanh(p[:, 0] / 5.0) * _ball(p, 5, -4, 103, 7, 10, 9)),
    "nose_tip_width": lambda p: _field(p, x=1.4 * np.tanh(p[:, 0] / 6.0) * _ball(p, 6, -20, 114, 8, 8, 9)),
    "nose_wing_height": lambda p: _field(p, y=1.2 * _ball(p, 14, -25, 101, 6, 7, 8)),
    "lip_width": lambda p: _field(p, x=2.0 * np.tanh(p[:, 0] / 20.0) * _ball(p, 20, -53, 92, 15, 10, 16)),
    "upper_lip_fullness": lambda p: _field(
        p, y=1.0 * _ball(p, 0, -44.5, 105, 13, 3.4, 10), z=1.1 * _ball(p, 0, -47.5, 105, 13, 4.0, 8)
    ),
    "lower_lip_fullness": lambda p: _field(
        p, y=-1.2 * _ball(p, 0, -62.0, 102, 13, 3.8, 10), z=1.2 * _ball(p, 0, -58.0, 103, 13, 4.4, 8)
    ),
    "mouth_protrusion": lambda p: _field(
        p, z=1.9 * np.exp(-0.5 * (((p[:, 1] + 52) / 15) ** 2 + (p[:, 0] / 24) ** 2)) * _front(p)
    ),
    "mouth_corner_height": lambda p: _field(p, y=1.3 * _ball(p, 24, -53, 92, 8, 8, 14)),
    "cupid_bow": lambda p: _field(
        p, y=0.6 * (_ball(p, 6.0, -44.5, 106, 3.0, 3.5, 8) - _ball(p, 0, -46, 106, 2.2, 3.5, 8))
    ),
    "interpupillary": lambda p: _field(p, x=2.0 * np.tanh(p[:, 0] / 16.0) * _ball(p, 31, 17, 75, 19, 17, 30)),
    "eye_opening": lambda p: _lid_spread(p),
    "eye_length": lambda p: _field(
        p, x=0.8 * np.sign(p[:, 0]) * (_ball(p, 46, 15.5, 75, 6, 7, 10) - 0.8 * _ball(p, 17, 13.5, 76, 4.0, 6, 10))
    ),
    "eye_tilt": lambda p: _field(p, y=1.1 * (_ball(p, 45, 16, 75, 7, 8, 12) - 0.6 * _ball(p, 17, 13.5, 76, 5, 6, 10))),
    "eye_depth": lambda p: _field(p, z=-1.5 * _ball(p, 31, 15, 80, 14, 11, 18)),
    "eye_height": lambda p: _field(p, y=1.4 * _ball(p, 31, 15, 80, 19, 12, 22)),
    "lid_fold": lambda p: _field(
        p, y=-0.6 * _ball(p, 33, 28, 86, 13, 5.5, 10), z=0.8 * _ball(p, 33, 26, 86, 13, 4.0, 10)
    ),
    "brow_ridge": lambda p: _field(p, z=1.6 * (_ball(p, 0, 32, 97, 14, 7, 20) + _ball(p, 28, 34, 90, 14, 6, 20))),
    "brow_height": lambda p: _field(p, y=1.3 * _ball(p, 30, 37, 88, 26, 10.0, 24)),
    "brow_slope": lambda p: _field(p, y=1.5 * (_ball(p, 46, 34, 78, 11, 8, 18) - _ball(p, 10, 32, 95, 10, 7, 18))),
    "cheekbone": lambda p: _outward(p) * (2.4 * _ball(p, 50, -4, 66, 13, 11, 18))[:, None],
    "cheekbone_height": lambda p: _field(p, y=2.2 * _ball(p, 48, -8, 66, 15, 14, 20)),
    "cheek_hollow": lambda p: _outward(p) * (-2.2 * _ball(p, 48, -40, 58, 13, 15, 20))[:, None],
    "nasolabial_fold": lambda p: _field(
        p, z=0.8 * (_ball(p, 34, -34, 88, 5, 14, 16) - _ball(p, 26, -38, 94, 4, 12, 16))
    ),
    "chin_protrusion": lambda p: _field(p, z=2.6 * _ball(p, 0, -86, 92, 24, 15, 22)),
    "chin_width": lambda p: _field(p, x=2.2 * np.tanh(p[:, 0] / 14.0) * _ball(p, 16, -90, 86, 15, 12, 18)),
    "jaw_angle_height": lambda p: _field(p, y=2.8 * _ball(p, 55, -66, 18, 14, 18, 26)),
    "jaw_length": lambda p: _field(
        p,
        z=2.2 * np.exp(-0.5 * (p[:, 0] / 60) ** 4) * _band(p[:, 1], -150, -100, -70, -20) * smoothstep(p[:, 2], 5, 80),
    ),
    "neck_width": lambda p: _field(
        p,
        x=3.5 * _sag(p) * (1 - smoothstep(p[:, 1], -115, -72)),
        z=1.8 * (1 - smoothstep(p[:, 1], -130, -100)) * np.sign(p[:, 2]) * np.minimum(1, np.abs(p[:, 2]) / 30),
    ),
    "under_chin": lambda p: _field(
        p, y=-2.6 * _ball(p, 0, -102, 56, 22, 12, 16), z=1.2 * _ball(p, 0, -106, 50, 22, 14, 16)
    ),
    "forehead_slope": lambda p: _field(p, z=-3.0 * _above(p, 32, 95) * smoothstep(p[:, 2], 0, 60)),
    "forehead_height": lambda p: _field(p, y=3.2 * _above(p, 32, 105)),
    "forehead_bulge": lambda p: _field(p, z=1.8 * _ball(p, 0, 66, 90, 38, 18, 30)),
    "ear_flare": lambda p: _field(
        p,
        x=0.16
        * np.sign(p[:, 0])
        * np.maximum(np.abs(p[:, 0]) - 73.0, 0.0)
        * _band(p[:, 1], -48, -30, 34, 50)
        * _band(p[:, 2], -60, -40, 0, 14),
    ),
    "temple_hollow": lambda p: _outward(p) * (-1.8 * _ball(p, 64, 34, 48, 9, 16, 18))[:, None],
    "head_length": lambda p: _field(p, z=-4.5 * (1 - smoothstep(p[:, 2], -95, 35))),
    "crown_height": lambda p: _field(p, y=4.0 * _above(p, 45, 130)),
    "asymmetry_jaw": lambda p: _field(
        p, x=1.3 * (1 - smoothstep(p[:, 1], -98, -30)) * smoothstep(p[:, 2], -15, 40) * smoothstep(p[:, 1], -160, -105)
    ),
    "asymmetry_nose": lambda p: _field(p, x=1.0 * _nose(p) * (1 - smoothstep(p[:, 1], -22, 18))),
    "asymmetry_eyes": lambda p: _field(p, y=0.7 * np.tanh(p[:, 0] / 12) * _ball(p, 31, 20, 80, 20, 18, 26)),
    "asymmetry_mouth": lambda p: _field(p, y=0.8 * np.tanh(p[:, 0] / 14) * _lips(p, 1.25)),
    "asymmetry_cheeks": lambda p: (
        _outward(p) * (0.9 * np.tanh(p[:, 0] / 20) * _ball(p, 50, -15, 60, 20, 30, 30))[:, None]
    ),
}


def _lid_spread(p: np.ndarray) -> np.ndarray:
    x = np.abs(p[:, 0])
    u = np.clip((x - eyes.INNER[0]) / (eyes.OUTER[0] - eyes.INNER[0]), 0, 1)
    span = np.sin(np.pi * u) ** 1.5
    near = np.exp(-0.5 * ((p[:, 2] - 84) / 8) ** 2)
    up = np.exp(-0.5 * ((p[:, 1] - 20.5) / 2.8) ** 2)
    down = np.exp(-0.5 * ((p[:, 1] - 9.8) / 2.8) ** 2)
    return _field(p, y=near * span * (0.65 * up - 0.35 * down))


def _masculine(p: np.ndarray) -> np.ndarray:
    """Half the difference between men and women, as far as the facts give it, and the soft differences of form."""
    f = {name: fact.half_difference for name, fact in facts.FACTS.items()}
    m = MODES
    out = 0.012 * p
    out = out + 1.5 * m["brow_ridge"](p) + 0.8 * m["chin_width"](p) + 0.5 * m["chin_protrusion"](p)
    out = out - 0.6 * m["upper_lip_fullness"](p) - 0.6 * m["lower_lip_fullness"](p) - 0.5 * m["brow_height"](p)
    out = out - 0.5 * m["eye_opening"](p) + 0.5 * m["nose_hump"](p) + 0.9 * m["forehead_slope"](p)
    out = out + 0.9 * m["neck_width"](p) - 0.25 * m["adiposity"](p) - 0.5 * m["nose_tip_up"](p)
    out = out + f["jaw_width"] / 8.0 * m["jaw_width"](p) + f["face_width"] / 12.0 * m["face_width"](p)
    out = out + f["face_height"] / 5.0 * m["face_height"](p) + f["nose_breadth"] / 5.0 * m["nose_breadth"](p)
    return out - 0.4 * m["cheekbone"](p)


# Share of the drawn amplitude of the modes that no published figure scales: together they must not make caricatures.
_MILD = 0.8

# Modes whose field moves the lids over the eyeball, which must not carry the eyeball along.
_LID_MODES = ("eye_opening", "eye_length", "eye_tilt", "lid_fold")


def _carry_eyes(a: Assembly, name: str, d: np.ndarray) -> np.ndarray:
    """Make the eyeballs and what lies on them move rigidly."""
    v = a.vertices
    out = d.copy()
    balls = a.is_piece("eyeball")
    for side in (1.0, -1.0):
        mine = v[:, 0] * side > 0
        if name in _LID_MODES:
            out[mine & balls] = 0.0
            continue
        front = mine & balls & (v[:, 2] > 82.0)
        shift = d[front].mean(axis=0)
        away = np.linalg.norm((v - eyes.CENTRE * [side, 1, 1]) * [0.9, 1.0, 1.0], axis=1) - eyes.RADIUS
        w = mine * (1 - smoothstep(away, 2.0, 10.0)) * smoothstep(v[:, 2], 62.0, 72.0)
        w = np.where(mine & balls, 1.0, w)
        w = np.where(mine & a.is_piece("lid_margin"), 1.0, w)
        out += w[:, None] * (shift - d)
    if name in _LID_MODES:
        out = _stay_outside(a, out)
    return out


def _stay_outside(a: Assembly, d: np.ndarray) -> np.ndarray:
    """Let moves of the lids follow the eyeball: what moves sideways over the sphere also moves along its slope."""
    v = a.vertices
    out = d.copy()
    for side in (1.0, -1.0):
        near = (v[:, 0] * side > 0) & (a.is_piece("lid_margin") | a.is_piece("skin"))
        r = v - eyes.CENTRE * [side, 1, 1]
        away = np.linalg.norm(r, axis=1) - eyes.RADIUS
        w = near * (1 - smoothstep(away, 2.2, 5.0)) * (r[:, 2] > 0)
        n = r / np.maximum(np.linalg.norm(r, axis=1, keepdims=True), 1e-9)
        w = w * smoothstep(n[:, 2], 0.2, 0.6)
        inward = (out * n).sum(axis=1)
        out[:, 2] -= w * inward / np.maximum(n[:, 2], 0.5)
    return out


def _jaw_pieces(a: Assembly, name: str, d: np.ndarray) -> np.ndarray:
    """Teeth and tongue move as a whole with their jaw, but the rows of teeth stay edge to edge."""
    if name == "size":
        return d
    upper, lower = a.is_piece("teeth_upper"), a.is_piece("teeth_lower", "tongue")
    skin = a.is_piece("skin")
    shifts = []
    for mine, at in ((upper, (0.0, -36.0, 96.0)), (lower, (0.0, -74.0, 92.0))):
        nearest = np.argsort(np.linalg.norm(a.vertices - np.asarray(at), axis=1) + 1e3 * ~skin)[:40]
        shift = d[mine].mean(axis=0) if name == "face_height" else 0.6 * d[nearest].mean(axis=0)
        shift[0] = d[nearest, 0].mean() if name.startswith("asymmetry") else 0.0
        shifts.append(shift)
    out = d.copy()
    for mine, shift in zip((upper, lower), shifts, strict=True):
        out[mine] = shift
        out[mine, 1] = 0.5 * (shifts[0][1] + shifts[1][1])
    return out


def identity_basis(a: Assembly) -> tuple[np.ndarray, tuple[str, ...]]:
    """Displacements [S, V, 3] in mm per standard deviation, and the names of the modes."""
    basis = np.stack([_jaw_pieces(a, name, _carry_eyes(a, name, f(a.vertices.copy()))) for name, f in MODES.items()])
    names = tuple(MODES)
    free = [j for j, name in enumerate(names) if name not in (*facts.FACTS, "size", "sex")]
    basis[free] *= _MILD
    named = anatomy.points(a)
    keys = list(facts.FACTS)
    sds = np.array([facts.FACTS[key].sd for key in keys])
    rest = anatomy.measure(a.vertices, a.mirror, named)

    def slopes() -> np.ndarray:
        """d measurement / d coefficient [measurements, modes]."""
        step = 0.25
        return np.array(
            [
                [(m[key] - rest[key]) / step for key in keys]
                for m in (anatomy.measure(a.vertices + step * b, a.mirror, named) for b in basis)
            ]
        ).T

    for _ in range(6):
        slope = slopes()
        for i, key in enumerate(keys):
            j = names.index(key)
            others = (slope[i] ** 2).sum() - slope[i, j] ** 2
            wanted = np.sqrt(max(sds[i] ** 2 - others, (0.7 * sds[i]) ** 2))
            basis[j] *= wanted / slope[i, j]
    return basis, names
