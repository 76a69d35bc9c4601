"""Where the camera is: head angles, lens, framing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from garfast.morphable.camera import OrthographicCamera, PinholeCamera
from garfast.synth.config import SynthConfig
from garfast.synth.dice import Dice

Floats = NDArray[np.float32]


class Shot(NamedTuple):
    """A pose and a camera for one picture."""

    rotation: Floats  # [3, 3] model space to camera space
    translation: Floats  # [3] mm
    orthographic: bool
    scale: float  # pixels per mm (orthographic) or focal length in pixels
    offset: tuple[float, float]  # photo position of the camera-space origin, or the principal point, pixels
    size: tuple[int, int]  # (H, W)
    pixel_mm: float  # size of a pixel at the face, mm
    angles: tuple[float, float, float]  # yaw, pitch, roll, radians

    def place(self, points: NDArray[np.floating]) -> Floats:
        """Model-space points [N, 3] in camera space."""
        return np.ascontiguousarray(points @ self.rotation.T + self.translation, np.float32)

    def project(self, points: NDArray[np.floating]) -> Floats:
        """Photo pixels [N, 2] of camera-space points [N, 3]."""
        flat = points[:, :2] if self.orthographic else points[:, :2] / -points[:, 2:]
        return (flat * np.array([self.scale, -self.scale]) + self.offset).astype(np.float32)

    def near(self, z: Floats) -> Floats:
        """How near points at camera-space z are, as a frame measures it (``garfast.synth.native.Frame``)."""
        return z if self.orthographic else np.float32(-1) / z

    def camera(self) -> OrthographicCamera | PinholeCamera:
        """The camera as the rest of the project knows it, with a batch of 1."""
        offset = torch.tensor([self.offset], dtype=torch.float32)
        if self.orthographic:
            return OrthographicCamera(torch.tensor([self.scale], dtype=torch.float32), offset, self.size)
        return PinholeCamera(torch.full((1, 2), self.scale, dtype=torch.float32), offset, self.size)

    def camera_dict(self) -> dict[str, Any]:
        """What ``camera().to_dict()`` gives, without its tensors."""
        scale, *offset = np.array([self.scale, *self.offset], np.float32).tolist()
        where = {"image_size": list(self.size)}
        if self.orthographic:
            return {"projection": OrthographicCamera.projection, **where, "scale": [scale], "offset": [offset]}
        return {"projection": PinholeCamera.projection, **where, "focal": [[scale, scale]], "centre": [offset]}

    def ndc(self) -> Floats:
        """[4] camera coefficients for the rasteriser, as ``camera().ndc()`` gives them."""
        height, width = self.size
        scale = (2 * self.scale / width, 2 * self.scale / height)
        return np.array([*scale, 2 * self.offset[0] / width - 1, 1 - 2 * self.offset[1] / height], np.float32)

    def pose(self) -> Floats:
        """[6] rotation as axis times angle, radians, and translation, mm."""
        r = self.rotation.tolist()
        x, y, z = r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]
        sine = math.hypot(x, y, z)
        # Heads turn by less than half a turn, where the sine of the angle vanishes only with the angle.
        angle = math.atan2(sine, r[0][0] + r[1][1] + r[2][2] - 1)
        scale = angle / sine if sine > 1e-9 else 0.5
        return np.array([x * scale, y * scale, z * scale, *self.translation.tolist()], np.float32)


def rotation_matrix(yaw: float, pitch: float, roll: float) -> Floats:
    """[3, 3] ``Rz(roll) Rx(pitch) Ry(yaw)``; the signs are those of ``garfast.morphable.rotation.euler_to_matrix``."""
    sy, sp, sr = math.sin(yaw), math.sin(pitch), math.sin(roll)
    cy, cp, cr = math.cos(yaw), math.cos(pitch), math.cos(roll)
    return np.array(
        [
            [cr * cy + sr * sp * sy, -sr * cp, cr * sy - sr * sp * cy],
            [sr * cy - cr * sp * sy, cr * cp, sr * sy + cr * sp * cy],
            [-cp * sy, -sp, cp * cy],
        ],
        np.float32,
    )


def sample_shot(rng: Dice, landmarks: Floats, size: tuple[int, int], config: SynthConfig) -> Shot:
    """Draw a pose and frame a face.

    Args:
        landmarks: [68, 3] of the face, model space, mm.
        size: (H, W) pixels.
    """
    angles = (
        _angle(rng, config.max_yaw, config.tail_yaw, spread=0.5),
        _angle(rng, config.max_pitch, config.tail_pitch, spread=0.45),
        _angle(rng, config.max_roll, config.tail_roll, spread=0.4),
    )
    rotation = rotation_matrix(*angles)
    height, width = size
    side = min(height, width)
    scale = rng.log_uniform(*config.face_scale)
    turned = landmarks @ rotation.T
    distance: float | None = None
    low, high = turned.min(0), turned.max(0)
    if rng.random() < config.perspective:
        distance = rng.log_uniform(*config.distance)
        middle = 0.5 * (low + high)
        # Near cameras point at the face; a little off it shows it from the side, as in a crop of a wide picture.
        aside = rng.normal(0, 0.06, 2) * distance
        translation = np.array([aside[0] - middle[0], aside[1] - middle[1], -distance - middle[2]], np.float32)
        placed = turned + translation
        flat = placed[:, :2] / -placed[:, 2:]
        low, high = flat.min(0), flat.max(0)
    else:
        translation = np.zeros(3, np.float32)
        placed = turned
        low, high = low[:2], high[:2]
    extent = float((high - low).max())
    focal = scale * side / extent
    box = focal * (high - low)
    if config.anywhere:
        free = np.maximum(np.array([width, height]) - box, 0)
        centre = 0.5 * np.array([width, height]) + (rng.random(2) - 0.5) * free
    else:
        centre = 0.5 * np.array([width, height]) + np.clip(rng.normal(0, 0.5, 2), -1, 1) * config.centre_jitter * side
    offset = centre - focal * 0.5 * (low + high) * np.array([1, -1])
    orthographic = distance is None
    pixel = 1 / focal if orthographic else float(-placed[:, 2].mean()) / focal
    place = (float(offset[0]), float(offset[1]))
    return Shot(rotation, translation, orthographic, focal, place, size, pixel, angles)


def _angle(rng: Dice, usual: float, tail: float, spread: float) -> float:
    """Half of the heads are near the front, half anywhere in the usual range, one in twenty beyond it. Radians."""
    kind = rng.random()
    if kind < 0.05:
        degrees = rng.uniform(usual, tail) * rng.choice((-1, 1))
    elif kind < 0.5:
        degrees = rng.uniform(-usual, usual)
    else:
        degrees = min(max(rng.normal(0, spread * usual), -usual), usual)
    return math.radians(degrees)
