"""Puts the layout, the sculpture and the pieces together and mirrors them: the mean face and what each vertex is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import parts
from .ear import ear
from .head import base_surface
from .layout import Layout, from_plane
from .nose import nostril
from .sculpture import surface
from .shapes import smoothstep

PIECES = ("skin", "lid_margin", "eyeball", "mouth_socket", "teeth_upper", "teeth_lower", "tongue", "ear")


@dataclass
class Assembly:
    """The mean face.

    vertices [V, 3] mm; triangles [F, 3]; mirror [V]; piece [V] index into PIECES; base [V, 3] the featureless head's
    point under each skin vertex; theta, level [V] its head coordinates (skin only); grid [V, 2] texture coordinates of
    the other pieces; triangle_piece [F]; the rims as vertex indices on the subject's left (x >= 0).
    """

    vertices: np.ndarray
    triangles: np.ndarray
    triangle_piece: np.ndarray
    mirror: np.ndarray
    piece: np.ndarray
    base: np.ndarray
    theta: np.ndarray
    level: np.ndarray
    grid: np.ndarray
    eye_rim: np.ndarray
    upper_lip_rim: np.ndarray
    lower_lip_rim: np.ndarray

    def is_piece(self, *names: str) -> np.ndarray:
        """Mask [V] of the vertices of the named pieces."""
        return np.isin(self.piece, [PIECES.index(name) for name in names])


def assemble(layout: Layout) -> Assembly:
    """The mean face over a layout of half the head."""
    theta, level = from_plane(layout.plane)
    middle = layout.plane[:, 0] == 0.0
    theta = np.where(middle, np.where(layout.plane[:, 1] < 0, np.pi, 0.0), theta)
    skin = surface(theta, level)
    skin = _smooth_nostrils(skin, layout.triangles)
    # The closed lips touch all along the slit.
    touch = 0.5 * (skin[layout.upper_lip_rim] + skin[layout.lower_lip_rim])
    skin[layout.upper_lip_rim] = skin[layout.lower_lip_rim] = touch
    skin[middle, 0] = 0.0
    base = base_surface(theta, level)
    vertices, triangles = [skin], [layout.triangles[:, [0, 2, 1]]]
    kind, grids = [np.zeros(len(skin), int)], [np.zeros((len(skin), 2))]
    tri_kind = [np.zeros(len(layout.triangles), int)]

    def add(piece: parts.Piece) -> None:
        k = PIECES.index(piece.name)
        vertices.append(piece.vertices)
        triangles.append(piece.triangles)
        kind.append(np.full(len(piece.vertices), k))
        tri_kind.append(np.full(len(piece.triangles), k))
        grids.append(piece.grid)

    def count() -> int:
        return sum(map(len, vertices))

    add(parts.lid_margin(layout.eye_rim, skin, count()))
    add(parts.eyeball(count()))
    add(parts.mouth_socket(layout.upper_lip_rim, layout.lower_lip_rim, skin, count()))
    add(parts.teeth("teeth_upper", count()))
    add(parts.teeth("teeth_lower", count()))
    add(parts.tongue(count()))
    add(ear(count()))
    half, faces = np.concatenate(vertices), np.concatenate(triangles)
    piece, face_piece, grid = np.concatenate(kind), np.concatenate(tri_kind), np.concatenate(grids)
    used = np.zeros(len(half), bool)
    used[faces] = True
    number = np.cumsum(used) - 1
    if not used[np.concatenate([layout.eye_rim, layout.upper_lip_rim, layout.lower_lip_rim])].all():
        raise AssertionError("a rim vertex of the layout is in no triangle")
    n = len(half)
    pad = np.zeros((n - len(skin), 3))
    base = np.concatenate([base, pad])
    theta, level = np.append(theta, pad[:, 0]), np.append(level, pad[:, 0])
    half, piece, grid, base, theta, level = (a[used] for a in (half, piece, grid, base, theta, level))
    faces = number[faces]
    return _mirrored(
        half,
        faces,
        piece,
        face_piece,
        grid,
        base,
        theta,
        level,
        [number[r] for r in (layout.eye_rim, layout.upper_lip_rim, layout.lower_lip_rim)],
    )


def _smooth_nostrils(skin: np.ndarray, triangles: np.ndarray, rounds: int = 12) -> np.ndarray:
    """Even out the vertices on the steep walls of the nostrils, where the rays of the sculpture graze them."""
    w = 0.6 * (1 - smoothstep(nostril(skin), 0.3, 1.6)) * (skin[:, 2] > 90.0)
    edges = np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    both = np.concatenate([edges, edges[:, ::-1]])
    degree = np.maximum(np.bincount(both[:, 0], minlength=len(skin)), 1)[:, None]
    out = skin.copy()
    for _ in range(rounds):
        total = np.stack([np.bincount(both[:, 0], out[both[:, 1], k], len(skin)) for k in range(3)], 1)
        out += w[:, None] * (total / degree - out)
    return out


def _mirrored(half, faces, piece, face_piece, grid, base, theta, level, rims) -> Assembly:
    n = len(half)
    seam = half[:, 0] == 0.0
    twin = np.where(seam, np.arange(n), n + np.cumsum(~seam) - 1)
    other = np.flatnonzero(~seam)
    flip = np.array([-1.0, 1.0, 1.0])
    mirror = np.concatenate([twin, other])
    return Assembly(
        vertices=np.concatenate([half, half[other] * flip]),
        triangles=np.concatenate([faces, twin[faces][:, [0, 2, 1]]]),
        triangle_piece=np.concatenate([face_piece, face_piece]),
        mirror=mirror,
        piece=np.concatenate([piece, piece[other]]),
        base=np.concatenate([base, base[other] * flip]),
        theta=np.concatenate([theta, -theta[other]]),
        level=np.concatenate([level, level[other]]),
        grid=np.concatenate([grid, grid[other]]),
        eye_rim=rims[0],
        upper_lip_rim=rims[1],
        lower_lip_rim=rims[2],
    )
