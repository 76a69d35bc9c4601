"""Random faces of a model, and the landmarks a perfect detector would give for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from garfast.fit.landmark_geometry import LandmarkGeometry
from garfast.morphable import MorphableModel, axis_angle_to_matrix, euler_to_matrix

IMAGE_SIZE = (512, 512)


class Faces(NamedTuple):
    """B faces: landmarks [B, 68, 2] in pixels, rotations [B, 3, 3] and coefficients they were made of."""

    landmarks: Tensor
    rotation: Tensor
    shape: Tensor
    exp: Tensor


def orthographic(points: Tensor) -> Tensor:
    """Pixels of rotated points [B, N, 3]: 2.2 pixels a millimetre."""
    return torch.stack([256 + 2.2 * points[..., 0], 270 - 2.2 * points[..., 1]], -1)


def pinhole(focal: float, distance: float) -> Callable[[Tensor], Tensor]:
    """Pixels of rotated points seen by a pinhole camera ``distance`` mm from the model's origin."""

    def project(points: Tensor) -> Tensor:
        zoom = focal / (distance - points[..., 2])
        return torch.stack([256 + zoom * points[..., 0], 256 - zoom * points[..., 1]], -1)

    return project


def random_faces(
    model: MorphableModel,
    count: int,
    *,
    seed: int = 0,
    contour: str = "fixed",
    noise: float = 0.5,
    yaw: float = 60.0,
    roll: float = 30.0,
    project: Callable[[Tensor], Tensor] = orthographic,
    one_person: bool = False,
) -> Faces:
    """Faces with coefficients from the prior (three in ten expressions active) and uniform poses, in 512x512 pixels."""
    random = torch.Generator().manual_seed(seed)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=random) * 2 - 1) * math.radians(limit)

    rotation = euler_to_matrix(uniform(yaw), uniform(25.0), uniform(roll)).double()
    shape = torch.randn(1 if one_person else count, model.num_shape, generator=random).expand(count, -1)
    exp = torch.randn(count, model.num_exp, generator=random)
    exp = exp * (torch.rand(count, model.num_exp, generator=random) < 0.3)
    lower, upper = model.exp_bounds.T
    exp = torch.where(lower >= 0, exp.abs(), exp).clamp(lower, upper)

    geometry = LandmarkGeometry.from_model(model)
    coefficients = torch.cat([shape, exp], 1).double()
    chosen = geometry.own_contour(count)
    if contour == "sliding":
        chosen = geometry.choose_contour(coefficients, rotation, math.sin(math.radians(8)))
    mean, basis = geometry.select(chosen)
    landmarks = project((mean + (basis @ coefficients[:, None, :, None])[..., 0]) @ rotation.mT)
    landmarks = landmarks + noise * torch.randn(landmarks.shape, generator=random, dtype=torch.float64)
    return Faces(landmarks, rotation, shape, exp)


def pose_deviation(model: MorphableModel, faces: Faces, *, contour: str, noise: float = 0.5) -> Tensor:
    """[B] root mean square error of the head's orientation, degrees, that landmarks of this noise leave at best.

    To first order: the covariance of rotation, scale, offset and coefficients at the true face, seen by `orthographic`,
    with the noise and the outline's points known, and normal coefficients that spread as `random_faces` draws them.
    """
    geometry = LandmarkGeometry.from_model(model)
    coefficients = torch.cat([faces.shape, faces.exp], 1).double()
    chosen = geometry.own_contour(len(coefficients))
    if contour == "sliding":
        chosen = geometry.choose_contour(coefficients, faces.rotation, math.sin(math.radians(8)))
    mean, basis = geometry.select(chosen)
    points = (mean + (basis @ coefficients[:, None, :, None])[..., 0]) @ faces.rotation.mT
    batch, count = points.shape[:2]
    x, y, z = points.unbind(-1)
    zero = torch.zeros_like(x)
    turn = torch.stack([zero, z, -y, -z, zero, x], -1).unflatten(-1, (2, 3))
    offset = torch.eye(2, dtype=points.dtype).expand(batch, count, 2, 2)
    by_coefficients = faces.rotation[:, None, :2] @ basis
    columns = torch.cat([turn, points[..., :2, None], offset, by_coefficients], -1).flatten(1, 2) * (2.2 / noise)
    information = columns.mT @ columns
    precision = torch.ones(geometry.num_coefficients, dtype=points.dtype)
    precision[geometry.num_shape :] = 1 / 0.3  # three in ten are active
    information.diagonal(dim1=1, dim2=2)[:, 6:] += precision
    covariance = torch.linalg.inv(information)[:, :3, :3]
    return torch.rad2deg(covariance.diagonal(dim1=1, dim2=2).sum(1).sqrt())


def turned(axis_angle: Tensor, rotation: Tensor) -> Tensor:
    """[B] angles in degrees between estimated axis-angle rotations and true matrices."""
    product = axis_angle_to_matrix(axis_angle.double()).mT @ rotation
    cosine = (product.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    return torch.rad2deg(cosine.clamp(-1, 1).acos())
