"""Poses and cameras.

Camera space is right-handed: x right, y up, and the camera looks along -z. Photo pixels have x right and y down, with
pixel centres at +0.5: the centre of the top-left pixel is (0.5, 0.5). Lengths are millimetres.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.morphable.rotation import axis_angle_to_matrix, euler_to_matrix, matrix_to_axis_angle, matrix_to_euler


@dataclass(frozen=True, eq=False)
class Pose:
    """A rigid pose: ``camera_point = R(rotation) @ model_point + translation``.

    Attributes:
        rotation: [B, 3] axis-angle, radians.
        translation: [B, 3] millimetres.

    Raises:
        ArgumentError: a shape is not [B, 3].
    """

    rotation: Tensor
    translation: Tensor

    def __post_init__(self) -> None:
        _check(self.rotation, (None, 3), "rotation")
        _check(self.translation, (None, 3), "translation")
        _check_batch(self.rotation, self.translation, "rotation", "translation")

    @classmethod
    def identity(cls, batch: int = 1, *, device: torch.device | str | None = None) -> Pose:
        """``batch`` faces at the origin, looking into the camera."""
        zeros = torch.zeros(batch, 3, device=device)
        return cls(zeros, zeros.clone())

    @classmethod
    def from_euler(cls, yaw: Tensor, pitch: Tensor, roll: Tensor, translation: Tensor | None = None) -> Pose:
        """A pose from head angles [B] in radians (see ``euler_to_matrix``); no translation unless given."""
        rotation = matrix_to_axis_angle(euler_to_matrix(yaw, pitch, roll))
        return cls(rotation, torch.zeros_like(rotation) if translation is None else translation)

    def euler(self) -> tuple[Tensor, Tensor, Tensor]:
        """Yaw, pitch and roll, [B] each, radians (see ``euler_to_matrix``)."""
        return matrix_to_euler(self.matrix())

    def matrix(self) -> Tensor:
        """The rotation matrices, [B, 3, 3]."""
        return axis_angle_to_matrix(self.rotation)

    def matrix4(self) -> Tensor:
        """The homogeneous matrices from model space to camera space, [B, 4, 4]."""
        top = torch.cat([self.matrix(), self.translation[:, :, None]], -1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(top.shape[0], 1, 4)
        return torch.cat([top, bottom], 1)

    def apply(self, points: Tensor) -> Tensor:
        """Move points [B, N, 3] from model space to camera space; a batch of 1 on either side is broadcast."""
        _check(points, (None, None, 3), "points")
        return points @ self.matrix().transpose(1, 2) + self.translation[:, None]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Pose:
        """The same pose on another device or in another floating-point dtype."""
        return Pose(self.rotation.to(device, dtype), self.translation.to(device, dtype))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON: ``rotation`` (axis-angle, radians) and ``translation`` (millimetres)."""
        return {"rotation": self.rotation.tolist(), "translation": self.translation.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pose:
        """The inverse of :meth:`to_dict`."""
        return cls(_tensor(data, "rotation"), _tensor(data, "translation"))


@dataclass(frozen=True, eq=False)
class OrthographicCamera:
    """Scaled orthographic camera: ``pixel = offset + scale * (x, -y)``.

    Attributes:
        scale: [B] pixels per millimetre.
        offset: [B, 2] photo position of the camera-space origin, pixels.
        image_size: (height, width), pixels.

    Raises:
        ArgumentError: a shape is wrong or the image has no pixels.
    """

    scale: Tensor
    offset: Tensor
    image_size: tuple[int, int]
    projection: ClassVar[Literal["orthographic"]] = "orthographic"

    def __post_init__(self) -> None:
        _check(self.scale, (None,), "scale")
        _check(self.offset, (None, 2), "offset")
        _check_batch(self.scale, self.offset, "scale", "offset")
        object.__setattr__(self, "image_size", _image_size(self.image_size))

    def project(self, points: Tensor) -> Tensor:
        """Photo pixels [B, N, 2] of camera-space points [B, N, 3]; a batch of 1 on either side is broadcast."""
        _check(points, (None, None, 3), "points")
        scale = torch.stack([self.scale, -self.scale], -1)
        return self.offset[:, None] + points[..., :2] * scale[:, None]

    def ndc(self) -> Tensor:
        """[B, 4] ``(sx, sy, tx, ty)`` with ``ndc = (sx x + tx, sy y + ty)``, y up, independent of the resolution."""
        height, width = self.image_size
        return torch.stack(
            [
                2 / width * self.scale,
                2 / height * self.scale,
                2 / width * self.offset[:, 0] - 1,
                1 - 2 / height * self.offset[:, 1],
            ],
            -1,
        )

    def intrinsics(self) -> Tensor:
        """[B, 3, 3] ``K`` with ``(u, v, 1) = K @ (x, y, 1)`` in OpenCV's axes (y down); depth plays no part."""
        return _calibration(self.scale, self.scale, self.offset)

    def opencv_matrix(self, pose: Pose) -> Tensor:
        """[B, 4, 4] model space to OpenCV's camera space (x right, y down, z forward), millimetres."""
        return _opencv(pose)

    def opengl_matrix(self, pose: Pose) -> Tensor:
        """[B, 4, 4] model space to OpenGL's eye space (x right, y up, z backward; our camera space), millimetres."""
        return pose.matrix4()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> OrthographicCamera:
        """The same camera on another device or in another floating-point dtype."""
        return replace(self, scale=self.scale.to(device, dtype), offset=self.offset.to(device, dtype))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``camera_from_dict`` reads them."""
        return {
            "projection": self.projection,
            "image_size": list(self.image_size),
            "scale": self.scale.tolist(),
            "offset": self.offset.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OrthographicCamera:
        """The inverse of :meth:`to_dict`."""
        return cls(_tensor(data, "scale", positive=True), _tensor(data, "offset"), _size_entry(data))


@dataclass(frozen=True, eq=False)
class PinholeCamera:
    """Perspective camera: ``pixel = centre + focal * (x, -y) / -z``.

    Attributes:
        focal: [B, 2] focal lengths along x and y, pixels.
        centre: [B, 2] principal point, photo pixels.
        image_size: (height, width), pixels.

    Raises:
        ArgumentError: a shape is wrong or the image has no pixels.
    """

    focal: Tensor
    centre: Tensor
    image_size: tuple[int, int]
    projection: ClassVar[Literal["pinhole"]] = "pinhole"

    def __post_init__(self) -> None:
        _check(self.focal, (None, 2), "focal")
        _check(self.centre, (None, 2), "centre")
        _check_batch(self.focal, self.centre, "focal", "centre")
        object.__setattr__(self, "image_size", _image_size(self.image_size))

    def project(self, points: Tensor) -> Tensor:
        """Photo pixels [B, N, 2] of camera-space points [B, N, 3]; a batch of 1 on either side is broadcast.

        Only points in front of the camera (z < 0) have a meaningful result.
        """
        _check(points, (None, None, 3), "points")
        flipped = torch.stack([self.focal[:, 0], -self.focal[:, 1]], -1)
        return self.centre[:, None] + points[..., :2] / -points[..., 2:] * flipped[:, None]

    def ndc(self) -> Tensor:
        """[B, 4] ``(fx, fy, cx, cy)`` with ``ndc = (fx x / -z + cx, fy y / -z + cy)``, y up."""
        height, width = self.image_size
        return torch.stack(
            [
                2 / width * self.focal[:, 0],
                2 / height * self.focal[:, 1],
                2 / width * self.centre[:, 0] - 1,
                1 - 2 / height * self.centre[:, 1],
            ],
            -1,
        )

    def intrinsics(self) -> Tensor:
        """[B, 3, 3] OpenCV's ``K``: ``(u, v, 1) ~ K @ (x, y, z)`` with y down and z forward."""
        return _calibration(self.focal[:, 0], self.focal[:, 1], self.centre)

    def opencv_matrix(self, pose: Pose) -> Tensor:
        """[B, 4, 4] model space to OpenCV's camera space (x right, y down, z forward), millimetres."""
        return _opencv(pose)

    def opengl_matrix(self, pose: Pose) -> Tensor:
        """[B, 4, 4] model space to OpenGL's eye space (x right, y up, z backward; our camera space), millimetres."""
        return pose.matrix4()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> PinholeCamera:
        """The same camera on another device or in another floating-point dtype."""
        return replace(self, focal=self.focal.to(device, dtype), centre=self.centre.to(device, dtype))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``camera_from_dict`` reads them."""
        return {
            "projection": self.projection,
            "image_size": list(self.image_size),
            "focal": self.focal.tolist(),
            "centre": self.centre.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PinholeCamera:
        """The inverse of :meth:`to_dict`."""
        return cls(_tensor(data, "focal", positive=True), _tensor(data, "centre"), _size_entry(data))


Camera = OrthographicCamera | PinholeCamera


def camera_from_dict(data: Mapping[str, Any]) -> Camera:
    """The camera that ``to_dict`` described.

    Raises:
        ArgumentError: ``projection`` is neither 'orthographic' nor 'pinhole', or an entry is missing or malformed.
    """
    kinds: dict[str, type[OrthographicCamera] | type[PinholeCamera]] = {
        "orthographic": OrthographicCamera,
        "pinhole": PinholeCamera,
    }
    kind = data.get("projection")
    if kind not in kinds:
        raise ArgumentError(f"a camera's projection must be 'orthographic' or 'pinhole', got {kind!r}")
    return kinds[kind].from_dict(data)


def _calibration(fx: Tensor, fy: Tensor, centre: Tensor) -> Tensor:
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [
        torch.stack([fx, zero, centre[:, 0]], -1),
        torch.stack([zero, fy, centre[:, 1]], -1),
        torch.stack([zero, zero, one], -1),
    ]
    return torch.stack(rows, 1)


def _opencv(pose: Pose) -> Tensor:
    matrix = pose.matrix4()
    return matrix * matrix.new_tensor([1.0, -1.0, -1.0, 1.0])[:, None]


def _check(value: Tensor, shape: tuple[int | None, ...], name: str) -> None:
    text = "[" + ", ".join("B" if n is None else str(n) for n in shape) + "]"
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ArgumentError(f"{name} must be a floating-point tensor of shape {text}")
    if value.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, value.shape, strict=True)):
        raise ArgumentError(f"{name} must have shape {text}, got {list(value.shape)}")


def _check_batch(first: Tensor, second: Tensor, first_name: str, second_name: str) -> None:
    if first.shape[0] != second.shape[0]:
        raise ArgumentError(
            f"{first_name} and {second_name} must have the same batch size, got {first.shape[0]} and {second.shape[0]}"
        )


def _image_size(size: Any) -> tuple[int, int]:
    height, width = int(size[0]), int(size[1])
    if height < 1 or width < 1:
        raise ArgumentError(f"image_size must be (height, width) of at least one pixel, got ({height}, {width})")
    return height, width


def _tensor(data: Mapping[str, Any], key: str, positive: bool = False) -> Tensor:
    try:
        values = torch.tensor(data[key], dtype=torch.float32)
    except KeyError:
        raise ArgumentError(f"the entry '{key}' is missing") from None
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"the entry '{key}' is not an array of numbers") from error
    if not values.isfinite().all() or (positive and not (values > 0).all()):
        raise ArgumentError(f"the entry '{key}' must hold {'positive' if positive else 'finite'} numbers")
    return values


def _size_entry(data: Mapping[str, Any]) -> tuple[int, int]:
    size = data.get("image_size")
    if not isinstance(size, list | tuple) or len(size) != 2:
        raise ArgumentError("the entry 'image_size' must be [height, width]")
    return int(size[0]), int(size[1])
