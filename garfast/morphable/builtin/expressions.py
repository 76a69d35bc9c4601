"""Expression modes: deformation fields along the pull of the facial muscles (after the action units of FACS).

A coefficient of 2 is the strongest expression meant; the ranges are in MODES. The jaw turns about the axis through its
joints, the lids slide over the eyeballs, the eyeballs turn about their centres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import eyes, mouth
from .assembly import Assembly
from .shapes import smoothstep

JOINT = np.array([0.0, -2.0, 12.0])


@dataclass
class Frame:
    """What the fields are made from: positions and, for each vertex, which lip and which jaw it belongs to."""

    a: Assembly
    p: np.ndarray  # where the fields are evaluated: the vertices, the inside of the lips at the skin in front of it
    x: np.ndarray  # |x|
    side: np.ndarray  # +1 upper lip or above, -1 lower lip or below (skin, mouth_socket, teeth)
    lip: np.ndarray  # 1 on the lips and their inner side, fading over the skin around
    span: np.ndarray  # 1 in the middle of the mouth, 0 at its corners and beyond
    jaw: np.ndarray  # share of the jaw's motion
    jaw_closed: np.ndarray  # the same where closed lips move together, both half the way
    rim: np.ndarray  # the vertex of the lids' rim that each vertex of the lid margins belongs to; itself elsewhere

    def ball(self, cx: float, cy: float, cz: float, rx: float | np.ndarray, ry: float, rz: float) -> np.ndarray:
        """Gaussian on both sides of the face, skin and mouth only."""
        p = self.p
        e = ((self.x - cx) / rx) ** 2 + ((p[:, 1] - cy) / ry) ** 2 + ((p[:, 2] - cz) / rz) ** 2
        return np.exp(-0.5 * e) * self.soft

    def pull(self, vector: tuple[float, float, float], weight: np.ndarray) -> np.ndarray:
        """Displacement along a vector given for the subject's left side, mirrored on the right."""
        out = weight[:, None] * np.asarray(vector, float)
        out[:, 0] *= np.tanh(self.p[:, 0] / 3.0)
        return out

    @property
    def soft(self) -> np.ndarray:
        """1 on skin and mouth socket, 0 on hard pieces."""
        return self.a.is_piece("skin", "mouth_socket").astype(float)

    @property
    def left(self) -> np.ndarray:
        """Soft mask of the subject's left half."""
        return smoothstep(self.p[:, 0], -9.0, 9.0)


def make_frame(a: Assembly) -> Frame:
    """Prepare the masks."""
    p = _field_points(a)
    x = np.abs(p[:, 0])
    skin, socket = a.is_piece("skin"), a.is_piece("mouth_socket")
    layout_y = np.where(skin, a.base[:, 1], p[:, 1])
    side = np.where(layout_y >= mouth.stomion(x), 1.0, -1.0)
    side = np.where(socket, np.where(a.grid[:, 0] < 0.5, 1.0, -1.0), side)
    side = np.where(a.is_piece("teeth_upper"), 1.0, np.where(a.is_piece("teeth_lower", "tongue"), -1.0, side))
    span = np.clip(1 - (x / mouth.CORNER_X) ** 2, 0.0, 1.0)
    off = np.abs(p[:, 1] - mouth.stomion(x))
    # A cosine: the flattest way to nothing, so that strong pulls together do not fold the skin between lip and nose.
    lip = 0.5 + 0.5 * np.cos(np.pi * np.clip(off / 24.0, 0.0, 1.0))
    lip = lip * (1 - smoothstep(x, 23.0, 34.0)) * smoothstep(p[:, 2], 60.0, 84.0)
    lip = lip * (skin | socket)
    rim = np.arange(len(p))
    for line, left in ((a.eye_rim, True), (a.mirror[a.eye_rim], False)):
        margin = np.flatnonzero(a.is_piece("lid_margin") & ((p[:, 0] > 0) == left))
        rim[margin] = np.resize(line, len(margin))
    jaw = _jaw_share(a, p, x, side, span, off, socket)
    closed = _jaw_share(a, p, x, side, np.zeros_like(span), off, socket)
    return Frame(a, p, x, side, lip, span, jaw, closed, rim)


def _field_points(a: Assembly) -> np.ndarray:
    """Vertices [V, 3], the front of the mouth's inside moved forward to the lips before it.

    What lies behind one another in the lips is then displaced alike, so that no expression makes the inner side of a
    lip come out through its skin.
    """
    p = a.vertices.copy()
    path = np.concatenate([a.upper_lip_rim, a.lower_lip_rim[::-1][1:]])
    half = np.flatnonzero(a.is_piece("mouth_socket") & (p[:, 0] >= 0))
    front = 1 - smoothstep(a.grid[half, 1], 0.56, 0.87)
    p[half, 2] += front * (p[np.resize(path, len(half)), 2] - p[half, 2])
    p[a.mirror[half], 2] = p[half, 2]
    return p


def _jaw_share(a, p, x, side, span, off, socket) -> np.ndarray:
    skin = a.is_piece("skin")
    angle = np.degrees(np.arctan2(p[:, 1] - JOINT[1], p[:, 2] - JOINT[2]))
    wide = smoothstep(-angle, 22.0, 46.0) * (1 - smoothstep(-angle, 60.0, 104.0)) * (p[:, 2] > JOINT[2] - 20)
    wide = wide * smoothstep(p[:, 2], -14.0, 44.0) * (1 - smoothstep(-p[:, 1], 100.0, 150.0))
    # Between the lower lip and the chin all goes with the jaw.
    below = smoothstep(off, 3.0, 11.0) * (side < 0) * (1 - smoothstep(x, 12.0, 40.0)) * smoothstep(p[:, 2], 60.0, 80.0)
    wide = wide + (1 - wide) * below
    own = np.where(side > 0, 0.0, 1.0)
    # At the corners of the mouth both lips move half the way.
    away = smoothstep(off, 0.0, 11.0)
    sharp = span**0.55 * (1 - away) + (1 - smoothstep(x, 5.0, 36.0)) * away
    corner = 0.5 + (own - 0.5) * sharp
    near = (1 - smoothstep(off, 3.0, 24.0)) * (1 - smoothstep(x, 22.0, 34.0)) * smoothstep(p[:, 2], 55.0, 75.0)
    jaw = np.where(skin | socket, wide * (1 - near) + corner * near, 0.0)
    back = np.clip(a.grid[:, 1], 0.0, 1.0)
    # Behind the lips the floor goes with the lower teeth and the roof stays with the upper ones, but for the throat.
    deep = 0.5 + 0.5 * np.clip((mouth.stomion(x) - p[:, 1]) / 7.0, -1.0, 1.0)
    deep = deep + (0.5 - deep) * smoothstep(back, 0.78, 1.0)
    jaw = np.where(socket, jaw + (deep - jaw) * smoothstep(back, 0.44, 0.87), jaw)
    return np.where(a.is_piece("teeth_lower", "tongue"), 1.0, jaw)


def _turn_jaw(f: Frame, degrees: float) -> np.ndarray:
    q = f.a.vertices - JOINT
    t = np.radians(degrees)
    y = np.cos(t) * q[:, 1] - np.sin(t) * q[:, 2]
    z = np.sin(t) * q[:, 1] + np.cos(t) * q[:, 2]
    return f.jaw[:, None] * np.stack([np.zeros_like(y), y - q[:, 1], z - q[:, 2]], 1)


def _jaw_open(f: Frame) -> np.ndarray:
    # At the end of the range the chin is 16 degrees down; the cheeks hollow and the corners come in.
    d = _turn_jaw(f, 16.0)
    return (
        d
        + f.pull((-2.2, 0.0, 0.0), f.ball(26, -58, 88, 12, 14, 16))
        + f.pull((-1.8, 0, 0), f.ball(50, -50, 50, 12, 18, 24))
    )


def _corner(f: Frame, reach: float = 1.0) -> np.ndarray:
    # Wider toward the cheek, which the corner of the mouth pushes before it.
    across = np.where(f.x > 25.0, 17.0, 12.0) * reach
    return f.ball(25, -53, 91, across, 13.0 * reach, 18.0 * reach)


def _smile(f: Frame) -> np.ndarray:
    d = f.pull((6.6, 9.0, -5.0), _corner(f))
    d += f.pull((2.4, 2.6, -1.6), f.ball(13, -54, 100, 8, 10, 14))
    d += f.pull((0.8, 4.2, 3.6), f.ball(38, -17, 80, 13, 10, 16))
    d += f.pull((0.6, -0.5, -1.6), f.ball(26, -36, 92, 4.5, 10, 12))
    return d + f.pull((0.0, 1.0, 0.6), f.ball(34, 2, 82, 12, 4.5, 10))


def _frown(f: Frame) -> np.ndarray:
    d = f.pull((0.8, -6.0, -1.0), f.ball(25, -54, 91, 8.5, 9, 16))
    return d + f.pull((0.0, -1.6, 0.6), f.ball(27, -68, 86, 8, 8, 14))


def _pucker(f: Frame) -> np.ndarray:
    near = np.exp(-0.5 * ((f.x / 26) ** 4 + ((f.p[:, 1] + 53) / 17) ** 4)) * smoothstep(f.p[:, 2], 62.0, 88.0) * f.soft
    d = np.zeros_like(f.p)
    d[:, 0] = -0.36 * f.p[:, 0] * near
    d[:, 2] = 6.5 * near * (0.45 + 0.55 * f.span)
    d[:, 1] = 1.1 * f.side * f.span * f.lip * smoothstep(np.abs(f.p[:, 1] + 53), 1.0, 7.0)
    return d + f.pull((-1.0, 0, -1.2), f.ball(42, -50, 70, 12, 14, 18))


def _funnel(f: Frame) -> np.ndarray:
    near = f.lip * f.span**0.5
    d = np.zeros_like(f.p)
    d[:, 1] = 3.8 * f.side * near
    d[:, 2] = 4.5 * f.lip * (0.4 + 0.6 * f.span)
    d[:, 0] = -0.22 * f.p[:, 0] * f.lip
    return d


def _stretch(f: Frame) -> np.ndarray:
    return f.pull((6.0, -1.2, -4.6), _corner(f)) + f.pull((2.6, -0.3, -1.8), f.ball(13, -54, 100, 9, 10, 14))


def _press(f: Frame) -> np.ndarray:
    off = f.p[:, 1] - mouth.stomion(f.x)
    red = np.exp(-0.5 * (off / 7.5) ** 4) * f.lip * np.sqrt(f.span)
    d = np.zeros_like(f.p)
    d[:, 1] = -0.34 * np.clip(off, -9.0, 9.0) * red * (f.a.is_piece("skin"))
    d[:, 2] = -3.0 * red * np.exp(-0.5 * (off / 5.0) ** 2)
    return d + f.pull((0.0, 0.0, 1.2), f.ball(0, -70, 97, 16, 5, 14)) + f.pull((0.8, 0, -1.0), _corner(f, 0.6))


def _upper_lip_raise(f: Frame) -> np.ndarray:
    up = f.lip * f.span**0.7 * (f.side > 0)
    d = f.pull((0, 5.4, 0.9), up)
    d += f.pull((0.6, 3.0, 0.6), f.ball(18, -33, 97, 9, 9, 12) * (f.side > 0) * (1 - up))
    d += f.pull((0.5, 1.6, 0.4), f.ball(15, -24, 101, 5, 6, 9))
    # The skin that is pushed together over the lip swells.
    return d + f.pull((0, 0, 1.6), f.ball(0, -37, 104, 18, 4.5, 12) * f.a.is_piece("skin"))


def _lower_lip_depress(f: Frame) -> np.ndarray:
    down = f.lip * f.span**0.7 * (f.side < 0)
    d = f.pull((0, -5.8, 0.6), down)
    d += f.pull((0.4, -2.6, 0.8), f.ball(10, -73, 96, 15, 6, 14) * (f.side < 0) * (1 - down))
    return d + f.pull((0, 0, 1.6), f.ball(0, -71, 98, 18, 4.5, 12) * f.a.is_piece("skin"))


def _mouth_sideways(f: Frame) -> np.ndarray:
    near = np.exp(-0.5 * ((f.x / 36) ** 4 + ((f.p[:, 1] + 54) / 20) ** 4)) * smoothstep(f.p[:, 2], 58.0, 88.0) * f.soft
    d = np.zeros_like(f.p)
    d[:, 0] = 7.0 * near
    d[:, 2] = -0.10 * f.p[:, 0] * near * 1.6
    return d


def _chin_raise(f: Frame) -> np.ndarray:
    d = f.pull((0, 3.4, 1.0), f.ball(0, -82, 97, 17, 9, 16))
    # The lower lip pushes the upper one up: closed lips stay closed.
    d += f.pull((0, 2.35, 1.2), f.lip * f.span**0.5)
    return d + f.pull((0, -1.4, -0.4), f.ball(25, -54, 91, 6, 7, 12))


def _cheek_puff(f: Frame) -> np.ndarray:
    w = f.ball(47, -45, 70, 15, 17, 26)
    n = f.p - np.array([0.0, -45.0, 30.0])
    n = n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1.0)
    d = 8.5 * w[:, None] * n
    return (
        d
        + f.pull((0.6, 0.0, 1.6), f.ball(16, -36, 99, 12, 6, 12))
        + f.pull((0, 0, 1.2), f.ball(12, -68, 97, 16, 6, 12))
    )


def _squint(f: Frame) -> np.ndarray:
    d = _move_lids(f, upper=-0.6, lower=1.4, power=2.0)
    d += f.pull((0.3, 2.6, 1.6), f.ball(37, -6, 82, 14, 7, 14))
    # Crow's feet: beside the corner, which itself stays.
    return d + f.pull((-0.6, 0, 0), f.ball(53, 14, 72, 5, 7, 10) * smoothstep(f.x, 46.0, 52.0))


def _move_lids(f: Frame, upper: float, lower: float, lift: float = 0.0, power: float = 1.0) -> np.ndarray:
    """Slide the lids over the eyeball.

    upper, lower: mm at the middle of each margin, up is positive; nan closes the eye. lift: mm by which the margin of
    the upper lid comes forward. power: how much the motion keeps to the middle of the lids, away from their corners.
    """
    p, x = f.p, f.x
    lids = f.a.is_piece("skin") & (p[:, 2] > 55.0)
    u = np.clip((x - eyes.INNER[0]) / (eyes.OUTER[0] - eyes.INNER[0]), 0.0, 1.0)
    top, bottom = eyes.upper_lid(x), eyes.lower_lid(x)
    opening = top - bottom
    shape = opening / (eyes.UPPER_HEIGHT + eyes.LOWER_HEIGHT)
    shape = shape * smoothstep(u, 0.0, 0.1) * (1 - smoothstep(u, 0.93, 1.0))
    opening = opening * smoothstep(u, -0.01, 0.045) * (1 - smoothstep(u, 0.97, 1.005))
    mid = 0.5 * (top + bottom)
    above = p[:, 1] > mid
    # What closed lids leave open is a larger share of the opening toward the corners, where the lift is small.
    closing = opening - np.maximum(1.1 * shape, 0.22 * opening * (1 - smoothstep(shape, 0.2, 0.7)))
    travel_up = -closing * 0.86 if np.isnan(upper) else upper * shape**power
    travel_low = closing * 0.14 if np.isnan(lower) else lower * shape**power
    distance = np.where(above, p[:, 1] - top, bottom - p[:, 1])
    reach = np.where(above, 10.5, 8.0)
    fade = 1 - smoothstep(distance, 0.2, reach)
    # Beside the corners the skin follows less the farther it is from the margin.
    beside = 0.01 + 0.03 * np.clip(distance, 0.0, 8.0)
    fade = fade * np.clip(u / beside, 0, 1) * np.clip((1 - u) / beside, 0, 1)
    inside = (x > eyes.INNER[0] - 2) & (x < eyes.OUTER[0] + 2)
    dy = np.where(above, travel_up, travel_low) * fade * lids * inside * (u > 0) * (u < 1)
    r = np.hypot(x - eyes.CENTRE[0], p[:, 1] - eyes.CENTRE[1])
    radius = np.sqrt(r**2 + (p[:, 2] - eyes.CENTRE[2]) ** 2)
    new_r2 = (x - eyes.CENTRE[0]) ** 2 + (p[:, 1] + dy - eyes.CENTRE[1]) ** 2
    # Keep the distance from the centre of the eyeball, as far as the lid lies on it.
    rest = np.sqrt(np.maximum(radius**2 - np.minimum(r**2, radius**2), 0.0))
    slid = np.sqrt(np.maximum(radius**2 - new_r2, 0.04 * radius**2))
    on_ball = 1 - smoothstep(radius - eyes.RADIUS, 2.4, 4.5)
    dz = (slid - rest) * on_ball * (dy != 0)
    # A little slack, so that half-way positions, which are straight blends, still clear the eyeball.
    slack = 0.035 * np.abs(dy)
    slack = slack + lift * above * smoothstep(shape, 0.0, 0.5) * (1 - smoothstep(distance, 0.3, 7.0)) * lids * inside
    return np.stack([np.zeros_like(dy), dy, dz + slack], 1)[f.rim]


def _blink(f: Frame) -> np.ndarray:
    # The upper lid comes down before the lower one: a lid that squints, looks down or is narrow slides under it.
    d = _move_lids(f, np.nan, np.nan, lift=3.0)
    return d + f.pull((0, -1.0, 0.0), f.ball(32, 33, 88, 14, 5, 12) * f.a.is_piece("skin"))


def _brow_inner(f: Frame) -> np.ndarray:
    return f.pull((-0.6, 6.0, 0.6), f.ball(10, 34, 95, 10, 9, 18)) + f.pull(
        (0, 2.4, 0.4), f.ball(10, 52, 94, 13, 10, 18)
    )


def _brow_outer(f: Frame) -> np.ndarray:
    d = f.pull((0.4, 5.6, 0.2), f.ball(38, 36, 82, 12, 8, 18)) + f.pull((0.0, 1.6, 0.0), f.ball(38, 54, 82, 15, 10, 18))
    return d


def _brow_lower(f: Frame) -> np.ndarray:
    d = f.pull((-2.2, -3.3, 0.8), f.ball(12, 35, 94, 9, 9, 16)) + f.pull(
        (-0.8, -1.4, 0.4), f.ball(32, 36, 88, 12, 9, 16)
    )
    return d + f.pull((0.0, -0.8, 1.0), f.ball(0, 31, 97, 7, 7, 14))


def _nose_wrinkle(f: Frame) -> np.ndarray:
    d = f.pull((1.0, 3.6, 0.2), f.ball(14, -23, 102, 7, 8, 12)) + f.pull((0.2, 2.0, 1.5), f.ball(12, -2, 95, 6, 9, 12))
    d += f.pull((-0.8, -2.0, 0.6), f.ball(9, 28, 95, 9, 7, 14)) + f.pull(
        (0.0, 1.6, 0.4), f.ball(10, -42, 104, 12, 6, 10) * (f.side > 0)
    )
    return d


def _nostril_flare(f: Frame) -> np.ndarray:
    return f.pull((2.4, 0.5, 0.3), f.ball(13.5, -25, 103, 6, 6, 9))


def _eyes_wide(f: Frame) -> np.ndarray:
    return _move_lids(f, 1.4, -1.0) + f.pull((0, 2.4, 0.2), f.ball(32, 33, 88, 16, 9, 14))


def _gaze(f: Frame, degrees: float, vertical: bool) -> np.ndarray:
    d = np.zeros_like(f.p)
    t = np.radians(degrees)
    for side in (1.0, -1.0):
        ball = f.a.is_piece("eyeball") & (f.p[:, 0] * side > 0)
        q = f.p[ball] - eyes.CENTRE * [side, 1.0, 1.0]
        k = 1 if vertical else 0
        d[ball, k], d[ball, 2] = t * q[:, 2], -t * q[:, k]
    if vertical:
        d += _move_lids(f, 1.2 * np.sign(degrees), 0.6 * np.sign(degrees), power=1.5)
    return d


def _jaw_sideways(f: Frame) -> np.ndarray:
    reach = np.clip((f.p[:, 2] - JOINT[2]) / 85.0, 0.0, 1.2)
    d = np.zeros_like(f.p)
    d[:, 0] = 7.5 * f.jaw_closed * reach
    d[:, 2] = -0.06 * f.p[:, 0] * f.jaw_closed * reach
    return d


def _jaw_forward(f: Frame) -> np.ndarray:
    return f.pull((0, 0, 5.5), f.jaw_closed * smoothstep(f.p[:, 2], 0.0, 50.0))


def _dimple(f: Frame) -> np.ndarray:
    return f.pull((2.4, 0.5, -3.6), f.ball(26, -53, 90, 9, 8, 14))


Range = tuple[float, float]
ONE_SIDED: Range = (0.0, 2.0)
BOTH: Range = (-2.0, 2.0)


def _left(make: Callable[[Frame], np.ndarray]) -> Callable[[Frame], np.ndarray]:
    return lambda f: make(f) * f.left[:, None]


def _right(make: Callable[[Frame], np.ndarray]) -> Callable[[Frame], np.ndarray]:
    return lambda f: make(f) * (1 - f.left)[:, None]


MODES: dict[str, tuple[Callable[[Frame], np.ndarray], Range]] = {
    "jaw_open": (_jaw_open, ONE_SIDED),
    "jaw_left_right": (_jaw_sideways, BOTH),
    "jaw_forward": (_jaw_forward, (-1.0, 2.0)),
    "smile_left": (_left(_smile), ONE_SIDED),
    "smile_right": (_right(_smile), ONE_SIDED),
    "frown_left": (_left(_frown), ONE_SIDED),
    "frown_right": (_right(_frown), ONE_SIDED),
    "dimple_left": (_left(_dimple), ONE_SIDED),
    "dimple_right": (_right(_dimple), ONE_SIDED),
    "mouth_stretch": (_stretch, ONE_SIDED),
    "pucker": (_pucker, ONE_SIDED),
    "lip_funnel": (_funnel, ONE_SIDED),
    "lip_press": (_press, ONE_SIDED),
    "upper_lip_raise": (_upper_lip_raise, ONE_SIDED),
    "lower_lip_depress": (_lower_lip_depress, ONE_SIDED),
    "mouth_left_right": (_mouth_sideways, BOTH),
    "chin_raise": (_chin_raise, ONE_SIDED),
    "cheek_puff": (_cheek_puff, (-1.0, 2.0)),
    "squint_left": (_left(_squint), ONE_SIDED),
    "squint_right": (_right(_squint), ONE_SIDED),
    "blink_left": (_left(_blink), ONE_SIDED),
    "blink_right": (_right(_blink), ONE_SIDED),
    "eyes_wide": (_eyes_wide, ONE_SIDED),
    "brow_raise_inner": (_brow_inner, ONE_SIDED),
    "brow_raise_outer_left": (_left(_brow_outer), ONE_SIDED),
    "brow_raise_outer_right": (_right(_brow_outer), ONE_SIDED),
    "brow_lower": (_brow_lower, ONE_SIDED),
    "nose_wrinkle": (_nose_wrinkle, ONE_SIDED),
    "nostril_flare": (_nostril_flare, (-1.0, 2.0)),
    "gaze_left_right": (lambda f: _gaze(f, 14.0, False), BOTH),
    "gaze_up_down": (lambda f: _gaze(f, 11.0, True), BOTH),
}


def _hold_eyes(a: Assembly, d: np.ndarray) -> np.ndarray:
    """Fade skin motions out on the lids' margins, which only the lid modes may move."""
    v = a.vertices
    away = np.linalg.norm((np.abs(v) * [1, 0, 0] + v * [0, 1, 1]) - eyes.CENTRE, axis=1) - eyes.RADIUS
    skin = a.is_piece("skin")
    near = skin * (1 - smoothstep(away, 2.0, 12.0)) * smoothstep(v[:, 2], 66.0, 72.0)
    out = d * (1 - near)[:, None]
    out[~skin & a.is_piece("lid_margin", "eyeball")] = 0.0
    return out


_EYE_MODES = (
    "squint_left",
    "squint_right",
    "blink_left",
    "blink_right",
    "eyes_wide",
    "gaze_left_right",
    "gaze_up_down",
)


def expression_basis(a: Assembly) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """Displacements [E, V, 3] in mm per standard deviation, names, and ranges [E, 2] of the coefficients."""
    f = make_frame(a)
    basis = []
    for name, (make, _) in MODES.items():
        d = make(f)
        basis.append(0.5 * (d if name in _EYE_MODES else _hold_eyes(a, d)))
    return np.stack(basis), tuple(MODES), np.array([r for _, r in MODES.values()])
