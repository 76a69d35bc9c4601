"""Rotations: axis-angle vectors, matrices and head angles. Differentiable, batched over any leading dimensions.

Axes are those of camera space: x right, y up, z toward the viewer, right-handed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from garfast.errors import ArgumentError


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation matrices of axis-angle vectors (Rodrigues' formula).

    Args:
        axis_angle: [..., 3], the direction is the axis and the length the angle in radians.

    Returns:
        [..., 3, 3] matrices ``R`` that rotate column vectors; value and gradients are right at the zero vector too.

    Raises:
        ArgumentError: the last dimension is not 3 or the dtype is not floating point.
    """
    _check(axis_angle, (3,), "axis_angle")
    squared = (axis_angle * axis_angle).sum(-1)[..., None, None]
    # Both factors are smooth functions of the squared angle; near zero their series replace 0/0, and the inner
    # `where` keeps the unused branch finite so that its gradient is not NaN.
    small = squared < _series_limit(squared.dtype)
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - squared / 6 * (1 - squared / 20), angle.sin() / angle)
    half = 0.5 * angle
    cosine = torch.where(small, 0.5 - squared / 24 * (1 - squared / 30), 0.5 * (half.sin() / half) ** 2)
    cross = _cross_matrix(axis_angle)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + sine * cross + cosine * (cross @ cross)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Axis-angle vectors of rotation matrices, with angles in [0, pi].

    Args:
        matrix: [..., 3, 3] rotation matrices.

    Returns:
        [..., 3]; accurate at 0 and at pi, where the axis is determined up to its sign.

    Raises:
        ArgumentError: the last dimensions are not 3x3 or the dtype is not floating point.
    """
    _check(matrix, (3, 3), "matrix")
    m00, m11, m22 = matrix[..., 0, 0], matrix[..., 1, 1], matrix[..., 2, 2]
    # Four multiples of the same quaternion (w, x, y, z), each built on a different component; the one built on the
    # largest component never divides by a small number (Shepperd, 1978).
    a = matrix[..., 2, 1] - matrix[..., 1, 2]
    b = matrix[..., 0, 2] - matrix[..., 2, 0]
    c = matrix[..., 1, 0] - matrix[..., 0, 1]
    xy = matrix[..., 1, 0] + matrix[..., 0, 1]
    xz = matrix[..., 0, 2] + matrix[..., 2, 0]
    yz = matrix[..., 2, 1] + matrix[..., 1, 2]
    squares = torch.stack([1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1)
    candidates = torch.stack(
        [
            torch.stack([squares[..., 0], a, b, c], -1),
            torch.stack([a, squares[..., 1], xy, xz], -1),
            torch.stack([b, xy, squares[..., 2], yz], -1),
            torch.stack([c, xz, yz, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.detach().argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = torch.nn.functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    squared = (imaginary * imaginary).sum(-1, keepdim=True)
    small = squared < _series_limit(matrix.dtype)
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 2 / real.clamp_min(0.5) * (1 - squared / 3), 2 * torch.atan2(sine, real) / sine)
    return factor * imaginary


def euler_to_matrix(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Rotation matrices of head angles: ``R = Rz(roll) @ Rx(pitch) @ Ry(yaw)``.

    For a face that looks along +z into the camera: positive ``yaw`` turns it to image right, positive ``pitch`` makes
    it look up, positive ``roll`` tilts it counter-clockwise in the image (the crown goes to image left).

    Args:
        yaw, pitch, roll: [...] radians, broadcast against each other.

    Returns:
        [..., 3, 3].

    Raises:
        ArgumentError: a dtype is not floating point.
    """
    for value, name in ((yaw, "yaw"), (pitch, "pitch"), (roll, "roll")):
        _check(value, (), name)
    yaw, pitch, roll = torch.broadcast_tensors(yaw, pitch, roll)
    sy, cy, sp, cp, sr, cr = yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos(), roll.sin(), roll.cos()
    rows = [
        torch.stack([cr * cy + sr * sp * sy, -sr * cp, cr * sy - sr * sp * cy], -1),
        torch.stack([sr * cy - cr * sp * sy, cr * cp, sr * sy + cr * sp * cy], -1),
        torch.stack([-cp * sy, -sp, cp * cy], -1),
    ]
    return torch.stack(rows, -2)


def matrix_to_euler(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Head angles of rotation matrices, the inverse of :func:`euler_to_matrix`.

    Args:
        matrix: [..., 3, 3] rotation matrices.

    Returns:
        ``(yaw, pitch, roll)``, [...] each, radians; pitch in [-pi/2, pi/2], the others in [-pi, pi]. Looking straight
        up or down, where only one combination of yaw and roll is determined, roll is 0.

    Raises:
        ArgumentError: the last dimensions are not 3x3 or the dtype is not floating point.
    """
    _check(matrix, (3, 3), "matrix")
    cosine = torch.hypot(matrix[..., 2, 0], matrix[..., 2, 2])
    pitch = torch.atan2(-matrix[..., 2, 1], cosine)
    locked = cosine < 1e-6
    yaw = torch.where(
        locked,
        torch.atan2(matrix[..., 0, 2], matrix[..., 0, 0]),
        torch.atan2(-matrix[..., 2, 0], matrix[..., 2, 2]),
    )
    roll = torch.where(locked, torch.zeros_like(yaw), torch.atan2(-matrix[..., 0, 1], matrix[..., 1, 1]))
    return yaw, pitch, roll


def _cross_matrix(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [torch.stack([zero, -z, y], -1), torch.stack([z, zero, -x], -1), torch.stack([-y, x, zero], -1)]
    return torch.stack(rows, -2)


def _series_limit(dtype: torch.dtype) -> float:
    return 1e-6 if dtype == torch.float64 else 1e-4


def _check(value: Tensor, tail: tuple[int, ...], name: str) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ArgumentError(f"{name} must be a floating-point tensor")
    if tail and tuple(value.shape[-len(tail) :]) != tail:
        raise ArgumentError(f"{name} must have shape [..., {', '.join(map(str, tail))}], got {list(value.shape)}")
