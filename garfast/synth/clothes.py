"""Shoulders and clothes: a lofted torso below the neck."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from garfast.synth.colour import cloth_colour
from garfast.synth.dice import Dice
from garfast.synth.native import Layer, num_attributes
from garfast.synth.quick import column_direction, grid_normals
from garfast.synth.template import SOLID

Floats = NDArray[np.float32]

_COLUMNS = 48
# Half widths across and in depth, height and place in depth, mm from the middle between the eyes; collar to waist.
_PROFILE = np.array(
    [
        [64, 62, -150, -62],
        [74, 70, -158, -64],
        [110, 82, -172, -68],
        [165, 98, -190, -72],
        [205, 108, -212, -74],
        [226, 116, -245, -76],
        [228, 124, -300, -76],
        [220, 130, -400, -76],
        [210, 130, -560, -76],
    ],
    np.float64,
)
_SIDE, _FRONT = np.sin(np.arange(_COLUMNS) / _COLUMNS * 2 * np.pi), np.cos(np.arange(_COLUMNS) / _COLUMNS * 2 * np.pi)
_DIP = np.array([[1.0], [1.0], [0.7]])  # share of the neckline's depth by which the upper rows sink
_SHADE = np.repeat(np.interp(np.arange(len(_PROFILE)), [0, 2, 4], [0.35, 0.6, 1.0]), _COLUMNS)


@lru_cache(maxsize=1)
def _grid() -> NDArray[np.int32]:
    rows = len(_PROFILE)
    index = np.arange(rows * _COLUMNS).reshape(rows, _COLUMNS)
    a, b = index[:-1], index[1:]
    a2, b2 = np.roll(a, -1, 1), np.roll(b, -1, 1)
    both = [np.stack(t, -1).reshape(-1, 3) for t in ((a, b, b2), (a, b2, a2))]
    return np.ascontiguousarray(np.concatenate(both), np.int32)


def torso(rng: Dice, eyes_centre: Floats) -> tuple[Floats, Floats, dict[str, float]]:
    """A clothed torso.

    Args:
        eyes_centre: [3] middle between the eyes, model space.

    Returns:
        Positions [N, 3] in model space, attributes [N, A] and the pattern's material parameters.
    """
    profile = _PROFILE.copy()
    profile[:, 0] *= rng.uniform(0.82, 1.12)
    profile[2:, 2] += rng.uniform(-18, 8)
    profile[:2, 2] += rng.uniform(-22, 22)  # high or low collar
    profile[:2, :2] += rng.uniform(-2, 10)
    x = profile[:, :1] * _SIDE
    z = profile[:, 1:2] * _FRONT + profile[:, 3:4]
    y = np.repeat(profile[:, 2:3], _COLUMNS, 1)
    dip = rng.uniform(0, 75) if rng.random() < 0.6 else rng.uniform(0, 20)  # neckline
    front = np.maximum(_FRONT, 0) ** rng.uniform(2, 12)
    y[:3] -= dip * front * _DIP
    z[:2] += 0.35 * dip * front
    positions = np.stack([x, y, z], -1).reshape(-1, 3) + eyes_centre
    attributes = np.zeros((len(positions), num_attributes()), np.float32)
    attributes[:, :3] = cloth_colour(rng)
    attributes[:, 3], attributes[:, 4] = rng.uniform(0, 0.02), 12
    attributes[:, 5], attributes[:, 6] = positions[:, 0] + 0.6 * positions[:, 2], positions[:, 1]
    attributes[:, 7], attributes[:, 8] = 1, 1
    attributes[:, 10] = _SHADE
    other = cloth_colour(rng)
    parameters = {
        "pattern": rng.choice((0.0, 0.0, 0.0, 1.0, 2.0, 3.0)),
        "pattern_scale": rng.log_uniform(6, 60),
        **{f"pattern_{c}": float(v) for c, v in zip("rgb", other, strict=True)},
    }
    return np.ascontiguousarray(positions, np.float32), attributes, parameters


def torso_layer(positions: Floats, attributes: Floats) -> Layer:
    """The torso's layer, placed in camera space."""
    grid = positions.reshape(len(_PROFILE), _COLUMNS, 3)
    normals = grid_normals(grid, column_direction(grid))
    triangles = _grid()
    materials = np.full(len(triangles), SOLID, np.uint8)
    return Layer(positions, normals, attributes, triangles, materials, False)
