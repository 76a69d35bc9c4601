"""Rotations against their definitions, at the awkward angles too."""

from __future__ import annotations

import math

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.morphable import axis_angle_to_matrix, euler_to_matrix, matrix_to_axis_angle, matrix_to_euler


def _vectors(angle: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    axes = torch.nn.functional.normalize(
        torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=dtype), dim=-1
    )
    return torch.cat([axes, torch.eye(3, dtype=dtype), -torch.eye(3, dtype=dtype)]) * angle


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1e-2, 0.5, 2.0, 3.1, math.pi - 1e-6])
def test_axis_angle_matches_the_matrix_exponential_and_back(angle: float) -> None:
    vectors = _vectors(angle)
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    matrices = axis_angle_to_matrix(vectors)
    torch.testing.assert_close(matrices, torch.linalg.matrix_exp(cross), atol=1e-12, rtol=0)
    torch.testing.assert_close(matrix_to_axis_angle(matrices), vectors, atol=1e-7, rtol=0)


def test_half_turns_keep_the_axis_up_to_its_sign() -> None:
    vectors = _vectors(math.pi)
    back = matrix_to_axis_angle(axis_angle_to_matrix(vectors))
    torch.testing.assert_close(
        torch.minimum((back - vectors).norm(dim=-1), (back + vectors).norm(dim=-1)),
        torch.zeros(len(vectors), dtype=torch.float64),
        atol=1e-7,
        rtol=0,
    )


@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.009, 0.011, 1.3])
def test_float32_rotations_are_orthogonal(angle: float) -> None:
    matrices = axis_angle_to_matrix(_vectors(angle, torch.float32))
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).expand_as(matrices), atol=1e-6, rtol=0)
    exact = axis_angle_to_matrix(_vectors(angle, torch.float32).double()).float()
    torch.testing.assert_close(matrices, exact, atol=5e-7, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-4, 1.0, 3.0])
def test_gradients(angle: float) -> None:
    vectors = _vectors(angle)[:4].requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, (vectors,))
    assert torch.autograd.gradcheck(lambda v: matrix_to_axis_angle(axis_angle_to_matrix(v)), (vectors,))


def test_head_angles_turn_the_way_they_say() -> None:
    zero, angle = torch.zeros(()), torch.tensor(0.3)
    forward, crown = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
    assert (euler_to_matrix(angle, zero, zero) @ forward)[0] > 0.2  # yaw: to image right
    assert (euler_to_matrix(zero, angle, zero) @ forward)[1] > 0.2  # pitch: up
    assert (euler_to_matrix(zero, zero, angle) @ crown)[0] < -0.2  # roll: crown to image left


def test_head_angles_compose_in_the_stated_order_and_return() -> None:
    yaw, pitch, roll = (torch.rand(3, 50, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 0.5) * 3.0
    zero = torch.zeros_like(yaw)
    matrix = euler_to_matrix(yaw, pitch, roll)
    product = euler_to_matrix(zero, zero, roll) @ euler_to_matrix(zero, pitch, zero) @ euler_to_matrix(yaw, zero, zero)
    torch.testing.assert_close(matrix, product)
    torch.testing.assert_close(torch.stack(matrix_to_euler(matrix)), torch.stack([yaw, pitch, roll]))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_looking_straight_up_or_down_gives_the_same_rotation_back(sign: float) -> None:
    angles = [torch.tensor(v, dtype=torch.float64) for v in (0.4, sign * math.pi / 2, 0.7)]
    matrix = euler_to_matrix(*angles)
    yaw, pitch, roll = matrix_to_euler(matrix)
    assert roll == 0
    torch.testing.assert_close(euler_to_matrix(yaw, pitch, roll), matrix)


def test_wrong_shapes_and_dtypes_are_named() -> None:
    with pytest.raises(ArgumentError, match="axis_angle must have shape"):
        axis_angle_to_matrix(torch.zeros(4))
    with pytest.raises(ArgumentError, match="floating-point"):
        matrix_to_axis_angle(torch.eye(3, dtype=torch.int64))
