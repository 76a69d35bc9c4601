"""The iBUG-68 landmarks of the built-in face and the vertices its jaw landmarks may slide over."""

from __future__ import annotations

import numpy as np

from . import eyes, mouth
from .assembly import Assembly
from .head import locate
from .layout import to_plane

# Index of the mirrored landmark.
MIRRORED = np.concatenate(
    [
        np.r_[16:-1:-1, 26:16:-1, 27:31, 35:30:-1],
        [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],
        [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65],
    ]
)

# Frontal positions x, y in mm on the subject's left, as 2D detectors place them on the outline and the brows.
_JAW = {
    11: (41.5, -78.0),
    12: (52.5, -63.0),
    13: (60.0, -45.0),
    14: (65.0, -25.0),
    15: (68.5, -5.0),
    16: (70.0, 14.0),
}
# The chin is marked on its lower edge, where the skin turns from the front to the underside: the outermost vertex near
# the line from the mouth through x, y, seen with the head tipped back by `tip` (a slope); landmark 8 is the menton.
_CHIN = {8: (0.0, -97.0, 0.12), 9: (14.0, -94.5, 0.14), 10: (28.5, -88.5, 0.2)}
# The brow ends about a centimetre beyond the outer corner of the eye.
_BROW = {22: (10.5, 32.0), 23: (22.0, 36.5), 24: (34.0, 38.0), 25: (46.0, 35.5), 26: (55.5, 28.5)}
_NOSE = {27: (0.0, 19.0), 28: (0.0, 6.0), 29: (0.0, -7.0), 30: (0.0, -20.5)}
_NOSE_BASE = {33: (0.0, -30.6), 34: (6.2, -30.4), 35: (12.4, -29.0)}
_LIPS = {51: 0.0, 52: 5.6, 53: 14.5}
_LOWER_LIPS = {55: 14.5, 56: 7.0, 57: 0.0}


def _frontmost(a: Assembly, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """Triangle and barycentric weights of the skin's frontmost point at a frontal position."""
    tri = a.triangles[a.triangle_piece == 0]
    p = a.vertices[tri]
    d1, d2 = p[:, 1, :2] - p[:, 0, :2], p[:, 2, :2] - p[:, 0, :2]
    r = np.array([x, y]) - p[:, 0, :2]
    det = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    det = np.where(np.abs(det) < 1e-9, np.inf, det)
    b = (r[:, 0] * d2[:, 1] - r[:, 1] * d2[:, 0]) / det
    c = (d1[:, 0] * r[:, 1] - d1[:, 1] * r[:, 0]) / det
    w = np.stack([1 - b - c, b, c], 1)
    hit = (w > -1e-7).all(axis=1) & np.isfinite(det)
    if not hit.any():
        raise ValueError(f"no skin at frontal position ({x}, {y})")
    best = int(np.argmax(np.where(hit, (w * p[:, :, 2]).sum(axis=1), -np.inf)))
    weight = np.clip(w[best], 0.0, 1.0)
    return tri[best], weight / weight.sum()


def _lower_edge(a: Assembly, x: float, y: float, tip: float) -> int:
    """The vertex of the chin's lower edge in the frontal direction of x, y from the middle of the mouth."""
    out = np.array([x, y - mouth.stomion(np.zeros(1))[0]])
    out /= np.linalg.norm(out)
    p = a.vertices
    off = (p[:, 0] - x) * out[1] - (p[:, 1] - y) * out[0]
    near = a.is_piece("skin") & (p[:, 2] > 60.0) & (p[:, 1] < -80.0)
    near &= (p[:, 0] == 0.0) if x == 0 else (np.abs(off) < 2.0) & (p[:, 0] > 0)
    return int(np.argmax(np.where(near, p[:, :2] @ out + tip * p[:, 2], -np.inf)))


def _rim_vertex(a: Assembly, rim: np.ndarray, x: float) -> int:
    return int(rim[np.argmin(np.abs(a.vertices[rim, 0] - x))])


def landmarks(a: Assembly) -> tuple[np.ndarray, np.ndarray]:
    """Triangles [68, 3] and weights [68, 3] of the landmarks."""
    triangles, weights = np.zeros((68, 3), int), np.zeros((68, 3))

    def vertex(i: int, v: int) -> None:
        triangles[i], weights[i] = v, (1.0, 0.0, 0.0)

    skin = np.flatnonzero(a.is_piece("skin"))
    flat = to_plane(a.theta[skin], a.level[skin])
    for i, (x, y) in _JAW.items():
        at = to_plane(*locate(np.array([x]), np.array([y])))[0]
        vertex(i, int(skin[np.argmin(np.linalg.norm(flat - at, axis=1))]))
    for i, (x, y, tip) in _CHIN.items():
        vertex(i, _lower_edge(a, x, y, tip))
    for i, (x, y) in (_BROW | _NOSE | _NOSE_BASE).items():
        triangles[i], weights[i] = _frontmost(a, x, y)
    for i, x in _LIPS.items():
        triangles[i], weights[i] = _frontmost(a, x, float(mouth.upper_border(np.array([x]))[0]))
    for i, x in _LOWER_LIPS.items():
        triangles[i], weights[i] = _frontmost(a, x, float(mouth.lower_border(np.array([x]))[0]))
    rim = a.eye_rim
    half = len(rim) // 2
    length = eyes.OUTER[0] - eyes.INNER[0]
    vertex(42, int(rim[0]))
    vertex(45, int(rim[half]))
    for i, share, part in (
        (43, 0.32, rim[half:]),
        (44, 0.68, rim[half:]),
        (46, 0.68, rim[1:half]),
        (47, 0.32, rim[1:half]),
    ):
        vertex(i, _rim_vertex(a, part, eyes.INNER[0] + share * length))
    vertex(54, int(a.upper_lip_rim[-1]))
    vertex(64, _rim_vertex(a, a.upper_lip_rim, 21.5))
    vertex(63, _rim_vertex(a, a.upper_lip_rim, 7.5))
    vertex(62, _rim_vertex(a, a.upper_lip_rim, 0.0))
    vertex(65, _rim_vertex(a, a.lower_lip_rim, 7.5))
    vertex(66, _rim_vertex(a, a.lower_lip_rim, 0.0))
    for i in range(68):
        j = MIRRORED[i]
        if weights[i].sum() == 0:
            triangles[i], weights[i] = a.mirror[triangles[j]], weights[j]
    return triangles, weights


def contour(a: Assembly, jaw: np.ndarray, count: int = 28) -> np.ndarray:
    """Vertices [17, count] that each jaw landmark may slide over, from the cheek outward to the back; -1 pads.

    The paths run across the outline: level on the sides of the face, and turning down around the chin. jaw [17]: the
    vertices of the jaw landmarks.
    """
    skin = np.flatnonzero(a.is_piece("skin"))
    p = a.vertices[skin]
    paths = np.full((17, count), -1)
    for i in range(8, 17):
        at = a.vertices[jaw[i]]
        lean = np.clip((i - 8) / 5.0, 0.0, 1.0) * np.pi / 2
        # The plane through the landmark that holds the view axis and the direction across the outline.
        across = np.array([np.sin(lean), -np.cos(lean), 0.0]) if i > 8 else np.array([0.0, -1.0, 0.0])
        along = np.array([across[1], -across[0], 0.0])
        off = (p - at) @ along
        t = (p - at) @ across
        near = np.abs(off) < 4.5
        near &= (p[:, 0] > -0.1) if i > 8 else True
        near &= p[:, 2] > -70.0 if i > 12 else p[:, 2] > 20.0
        near &= t > -42.0
        near &= (p[:, 2] - at[2] < 45.0) & (np.linalg.norm(p - at, axis=1) < (95.0 if i > 12 else 52.0))
        candidates = skin[near]
        # Order by the direction seen from inside the head, and thin out.
        q = a.vertices[candidates] - np.array([0.0, at[1] if i > 12 else -45.0, 0.0 if i > 12 else 45.0])
        order = np.arctan2(q @ across, q[:, 2])
        candidates = candidates[np.argsort(order, kind="stable")]
        order = np.sort(order)
        cells = np.clip(((order - order[0]) / max(order[-1] - order[0], 1e-9) * count).astype(int), 0, count - 1)
        miss = np.abs((a.vertices[candidates] - at) @ along)
        chosen = []
        for c in range(count):
            inside = np.flatnonzero(cells == c)
            if len(inside):
                chosen.append(int(candidates[inside[np.argmin(miss[inside])]]))
        if int(jaw[i]) not in chosen:
            spot = int(np.argmin(np.linalg.norm(a.vertices[chosen] - at, axis=1)))
            chosen[spot] = int(jaw[i])
        paths[i, : len(chosen)] = chosen
    for i in range(8):
        path = paths[16 - i]
        paths[i] = np.where(path >= 0, a.mirror[path], -1)
    return paths
