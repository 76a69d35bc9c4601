"""Shoulders and clothes: a lofted torso below the neck."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from garfast.synth.colour import cloth_colour
from garfast.synth.dice import Dice
from garfast.synth.native import Layer, kernels, vertex_room
from garfast.synth.solids import grid_triangles
from garfast.synth.template import SOLID

Floats = NDArray[np.float32]

_COLUMNS = 48
_GLOSS = 12.0
# Half widths across and in depth, height and place in depth, mm from the middle between the eyes; share of the
# neckline's depth by which the front sinks; openness to the light around. Collar to waist.
_PROFILE = np.array(
    [
        [64, 62, -150, -62, 1, 0.35],
        [74, 70, -158, -64, 1, 0.475],
        [110, 82, -172, -68, 0.7, 0.6],
        [165, 98, -190, -72, 0, 0.8],
        [205, 108, -212, -74, 0, 1],
        [226, 116, -245, -76, 0, 1],
        [228, 124, -300, -76, 0, 1],
        [220, 130, -400, -76, 0, 1],
        [210, 130, -560, -76, 0, 1],
    ],
    np.float32,
)


@lru_cache(maxsize=1)
def _mesh() -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Triangles [F, 3] and materials [F]."""
    triangles = grid_triangles(len(_PROFILE), _COLUMNS, True)
    return triangles, np.full(len(triangles), SOLID, np.uint8)


def torso(rng: Dice, eyes_centre: Floats, rotation: Floats, translation: Floats) -> tuple[Layer, dict[str, float]]:
    """A clothed torso, and its pattern's material parameters.

    Args:
        eyes_centre: [3] middle between the eyes, model space.
        rotation, translation: [3, 3] and [3] model space to camera space.
    """
    profile = _PROFILE.copy()
    profile[:, 0] *= rng.uniform(0.82, 1.12)
    profile[2:, 2] += rng.uniform(-18, 8)
    profile[:2, 2] += rng.uniform(-22, 22)  # high or low collar
    profile[:2, :2] += rng.uniform(-2, 10)
    dip = rng.uniform(0, 75) if rng.random() < 0.6 else rng.uniform(0, 20)  # neckline
    dip_power, colour, specular, other = rng.uniform(2, 12), cloth_colour(rng), rng.uniform(0, 0.02), cloth_colour(rng)
    positions, normals, attributes = vertex_room(len(_PROFILE) * _COLUMNS)
    kernels().synth_torso(  # type: ignore[attr-defined]
        profile,
        eyes_centre,
        rotation,
        translation,
        colour,
        dip,
        dip_power,
        specular,
        _GLOSS,
        positions,
        normals,
        attributes,
        len(_PROFILE),
        _COLUMNS,
    )
    parameters = {
        "pattern": rng.choice((0.0, 0.0, 0.0, 1.0, 2.0, 3.0)),
        "pattern_scale": rng.log_uniform(6, 60),
        **{f"pattern_{c}": float(v) for c, v in zip("rgb", other, strict=True)},
    }
    return Layer(positions, normals, attributes, *_mesh(), False), parameters
