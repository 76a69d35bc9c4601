"""The light of a picture: what comes from all around, a key light that throws shadows, and a rim light."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from garfast.synth.dice import Dice
from garfast.synth.native import Layer, depth_map
from garfast.synth.quick import cross, unit
from garfast.synth.template import harmonics

Floats = NDArray[np.float32]

# Orthonormal harmonics are the polynomials of ``harmonics`` times constants; this is 4 pi times those squared.
_NORM = np.array([1, 3, 3, 3, 15, 15, 1.25, 15, 3.75])
_BLOB = np.array([1, 0.85, 0.85, 0.85, 0.5, 0.5, 0.5, 0.5, 0.5])  # how sharp a broad lamp is
_COSINE = np.array([1, 2 / 3, 2 / 3, 2 / 3, 0.25, 0.25, 0.25, 0.25, 0.25])
_UP = np.array([0.0, 1.0, 0.0])
_SHADOW_SIZE = 192
_SHADOW_BIAS = 2.5  # mm
_SHADOW_REACH = 210.0  # mm around the head that the shadow map covers


class Light(NamedTuple):
    """Light in camera space."""

    radiance: Floats  # [9, 3] coefficients of the light around
    key_direction: Floats  # [3] unit, toward the light
    key_colour: Floats  # [3]
    rim_direction: Floats
    rim_colour: Floats
    shadow_strength: float
    exposure: float  # 1 / (what a white matt surface facing the camera sends back)

    def ambient(self) -> Floats:
        """[9, 3] irradiance coefficients."""
        return np.ascontiguousarray(self.radiance * _COSINE[:, None], np.float32)

    def parameters(self) -> dict[str, float]:
        """Material parameters of the lights."""
        out: dict[str, float] = {"shadow_on": self.shadow_strength}
        for name, direction, colour in (
            ("key", self.key_direction, self.key_colour),
            ("rim", self.rim_direction, self.rim_colour),
        ):
            out |= {f"{name}_{axis}": float(value) for axis, value in zip("xyz", direction, strict=True)}
            out |= {f"{name}_{channel}": float(value) for channel, value in zip("rgb", colour, strict=True)}
        return out


def sample_light(rng: Dice) -> Light:
    """Draw a lighting: overcast, indoors, flash, sun, studio, coloured lamps."""
    tint = np.exp(rng.normal(0, 0.05, 3))
    even = rng.log_uniform(0.12, 0.8) * tint
    # Sky or ceiling above, floor below.
    blobs = [(_UP, rng.uniform(-0.1, 0.4) * np.exp(rng.normal(0, 0.06, 3)))]
    coloured = rng.random() < 0.12
    for _ in range(rng.below(4)):
        colour = np.exp(rng.normal(0, 0.5 if coloured else 0.08, 3)) * rng.uniform(0.05, 0.6)
        blobs.append((_direction(rng, front=0.2), colour))
    radiance = _radiance(blobs)
    radiance[0] += even
    key = _direction(rng, front=0.5)
    strength = 0.0 if rng.random() < 0.12 else float(rng.uniform(0.15, 1.9))
    key_colour = strength * np.exp(rng.normal(0, 0.35 if coloured else 0.07, 3))
    if rng.random() < 0.12:  # flash on the camera
        key = np.array([rng.normal(0, 0.08), rng.normal(0.08, 0.06), 1.0])
        key /= math.hypot(*key)
    rim_colour = np.zeros(3)
    rim = np.array([rng.choice((-1, 1)) * rng.uniform(0.5, 1), rng.uniform(-0.2, 0.8), rng.uniform(-0.9, 0.1)])
    if rng.random() < 0.3:
        rim_colour = rng.uniform(0.2, 1.2) * np.exp(rng.normal(0, 0.4 if coloured else 0.1, 3))
    sent_back = float(radiance[0].mean()) + 0.6 * float(key_colour.mean()) * max(key[2], 0.15)
    return Light(
        radiance.astype(np.float32),
        key.astype(np.float32),
        key_colour.astype(np.float32),
        (rim / math.hypot(*rim)).astype(np.float32),
        rim_colour.astype(np.float32),
        float(rng.uniform(0.6, 1.0)),
        1 / max(sent_back, 0.15),
    )


def turned_light(radiance: Floats, rotation: Floats) -> Floats:
    """The light around, without colour, in the head's frame: [9] coefficients.

    Args:
        radiance: [9, 3] in camera space.
        rotation: [3, 3] model space to camera space.
    """
    # By its values in a few directions: nine are enough for nine coefficients.
    light = _TURN_PROBES_INVERSE @ (harmonics(_TURN_PROBES @ rotation.T) @ radiance.mean(1))
    return np.ascontiguousarray(light, np.float32)


def _probes() -> Floats:
    rng = np.random.default_rng(5)
    directions = rng.standard_normal((24, 3))
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


_TURN_PROBES = _probes()
_TURN_PROBES_INVERSE = np.linalg.pinv(harmonics(_TURN_PROBES)).astype(np.float32)


def shadow_map(light: Light, layers: list[Layer], centre: Floats) -> tuple[Floats | None, dict[str, float]]:
    """The scene's front seen from the key light, and the parameters that look it up.

    Args:
        layers: what throws shadows.
        centre: [3] middle of the head, camera space.
    """
    if light.shadow_strength <= 0 or light.key_colour.max() < 0.02:
        return None, {}
    direction = light.key_direction
    helper = _UP if abs(direction[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    x = unit(cross(helper, direction))
    frame = np.stack([x, cross(direction, x), direction]).astype(np.float32)
    placed = np.concatenate([frame, -(frame @ centre)[:, None]], 1).astype(np.float32)
    camera = np.array([1 / _SHADOW_REACH, 1 / _SHADOW_REACH, 0, 0], np.float32)
    depth: Floats | None = None
    for layer in layers:
        depth = depth_map(
            layer.positions, layer.triangles, camera, _SHADOW_SIZE, into=depth, frame=placed, cull=layer.cull
        )
    half = 0.5 * _SHADOW_SIZE
    rows = {"x": frame[0] * half / _SHADOW_REACH, "y": -frame[1] * half / _SHADOW_REACH, "z": frame[2]}
    parameters: dict[str, float] = {}
    for name, row in rows.items():
        parameters |= {f"map_{name}{axis}": float(value) for axis, value in zip("xyz", row, strict=True)}
    parameters["map_x0"] = half - 0.5 - float(rows["x"] @ centre)
    parameters["map_y0"] = half - 0.5 - float(rows["y"] @ centre)
    parameters["map_z0"] = _SHADOW_BIAS - float(rows["z"] @ centre)
    return depth, parameters


def _direction(rng: Dice, front: float) -> NDArray[np.float64]:
    """A unit direction, mostly from above and in front."""
    v = rng.standard_normal(3)
    v[1] += 0.5
    v[2] = v[2] * (1 - front) + abs(v[2]) * front + 0.4 * front
    return v / math.hypot(*v)


def _radiance(blobs: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> NDArray[np.float64]:
    """[9, 3] light from directions [3] in colours [3]: a blob of 1 lights a surface that faces it about like an even
    light of 1."""
    directions, colours = (np.array(part) for part in zip(*blobs, strict=True))
    return (harmonics(directions) * (0.25 * _NORM * _BLOB)).T @ colours
