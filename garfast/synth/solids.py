"""Simple meshes from which things are put together: tubes, balls, boxes, discs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.synth.native import Layer, kernels, num_attributes
from garfast.synth.template import SOLID

Floats = NDArray[np.float32]


class Solid(NamedTuple):
    """A mesh in model space with one look."""

    positions: NDArray[np.floating]  # [V, 3] mm
    normals: NDArray[np.floating]  # [V, 3]
    triangles: NDArray[np.integer]  # [F, 3]
    colour: NDArray[np.floating]  # [3] linear
    specular: float = 0.03
    gloss: float = 20.0
    opacity: float = 1.0
    pattern: float = 0.0  # how much of the layer's pattern it takes


@lru_cache(maxsize=64)
def grid_triangles(rows: int, columns: int, closed: bool) -> NDArray[np.int32]:
    """Triangles [F, 3] of a grid of vertices, to be read alone; ``closed`` joins the last column to the first."""
    index = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    if closed:
        index = np.concatenate([index, index[:, :1]], 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    return np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])


def tube(
    path: NDArray[np.floating],
    radius: NDArray[np.floating] | float,
    colour: NDArray[np.floating],
    *,
    sides: int = 6,
    flat: float = 1.0,
    closed: bool = False,
    **look: Any,
) -> Solid:
    """A tube along a path [N, 3]; ``flat`` scales its section along z, ``closed`` joins its ends."""
    points = len(path)
    rings = points + closed
    positions, normals = np.empty((rings * sides, 3), np.float32), np.empty((rings * sides, 3), np.float32)
    kernels().synth_tube(  # type: ignore[attr-defined]
        np.ascontiguousarray(path, np.float32),
        np.full(points, radius, np.float32) if isinstance(radius, float) else radius.astype(np.float32),
        flat,
        positions,
        normals,
        points,
        rings,
        sides,
        closed,
    )
    return Solid(positions, normals, grid_triangles(rings, sides, True), colour, **look)


def ball(
    centre: NDArray[np.floating], radii: NDArray[np.floating] | float, colour: NDArray[np.floating], **look: Any
) -> Solid:
    """An ellipsoid with axes along x, y and z."""
    polar, around = np.linspace(0, np.pi, 10)[:, None], np.linspace(0, 2 * np.pi, 16, endpoint=False)
    unit = np.stack(
        [np.sin(polar) * np.cos(around), np.broadcast_to(np.cos(polar), (10, 16)), np.sin(polar) * np.sin(around)], -1
    ).reshape(-1, 3)
    size = np.broadcast_to(np.asarray(radii, float), 3)
    normals = unit / size
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Solid(centre + unit * size, normals, grid_triangles(10, 16, True), colour, **look)


def box(centre: NDArray[np.floating], size: NDArray[np.floating], colour: NDArray[np.floating], **look: Any) -> Solid:
    """A box with edges along x, y and z."""
    positions: list[NDArray[np.floating]] = []
    normals: list[NDArray[np.floating]] = []
    triangles: list[NDArray[np.int64]] = []
    for axis in range(3):
        for side in (-1.0, 1.0):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            corners = np.zeros((4, 3))
            corners[:, axis] = side
            corners[:, u], corners[:, v] = [-1, 1, 1, -1], [-1, -1, 1, 1]
            start = 4 * len(positions)
            positions.append(centre + 0.5 * corners * size)
            normals.append(np.repeat(np.eye(3)[axis][None] * side, 4, 0))
            triangles.append(np.array([[0, 1, 2], [0, 2, 3]]) + start)
    return Solid(np.concatenate(positions), np.concatenate(normals), np.concatenate(triangles), colour, **look)


def disc(rim: NDArray[np.floating], colour: NDArray[np.floating], bulge: float = 0.0, **look: Any) -> Solid:
    """A disc inside a closed rim [N, 3] that faces +z, its middle raised by ``bulge`` mm."""
    centre = rim.mean(0) + np.array([0, 0, bulge])
    count = len(rim)
    triangles = np.stack([np.full(count, count), np.arange(count), (np.arange(count) + 1) % count], 1)
    outward = rim - rim.mean(0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    normals = np.concatenate([0.25 * outward + np.array([0, 0, 1.0]), [[0, 0, 1.0]]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Solid(np.concatenate([rim, centre[None]]), normals, triangles, colour, **look)


def turned(solid: Solid, rotation: NDArray[np.floating], offset: NDArray[np.floating]) -> Solid:
    """A solid after a rotation [3, 3] about the origin and a move [3]."""
    return solid._replace(positions=solid.positions @ rotation.T + offset, normals=solid.normals @ rotation.T)


def solids_layer(solids: Sequence[Solid], rotation: Floats, translation: Floats) -> Layer:
    """One layer of several solids, placed in camera space."""
    counts = [len(solid.positions) for solid in solids]
    starts = np.cumsum([0, *counts[:-1]])
    model = np.concatenate([solid.positions for solid in solids])
    normals = np.concatenate([solid.normals for solid in solids]) @ rotation.T
    attributes = np.zeros((len(model), num_attributes()), np.float32)
    for solid, start, count in zip(solids, starts, counts, strict=True):
        rows = attributes[start : start + count]
        rows[:, :3] = solid.colour
        rows[:, 3], rows[:, 4] = solid.specular, solid.gloss
        rows[:, 7], rows[:, 8] = solid.opacity, solid.pattern
    # The pattern's place: around the head's axis and along it.
    attributes[:, 5] = np.arctan2(model[:, 0], model[:, 2]) * 95
    attributes[:, 6] = model[:, 1]
    attributes[:, 10] = 0.9
    triangles = np.concatenate([solid.triangles + start for solid, start in zip(solids, starts, strict=True)])
    return Layer(
        np.ascontiguousarray(model @ rotation.T + translation, np.float32),
        np.ascontiguousarray(normals, np.float32),
        attributes,
        np.ascontiguousarray(triangles, np.int32),
        np.full(len(triangles), SOLID, np.uint8),
        False,
    )
