"""The hand-written derivatives and the bounded step of the landmark fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from garfast.fit.landmark_config import MAX_STARTS
from garfast.fit.landmark_pose import PITCHES, YAWS
from garfast.fit.landmark_solver import (
    LOG_FOCAL,
    NUM_CAMERA,
    OFFSET,
    Problem,
    State,
    cost,
    determined,
    jacobian,
    project,
    step,
)
from garfast.morphable import axis_angle_to_matrix


def _case(
    perspective: bool, batch: int = 2, modes: int = 5, focal_precision: float | None = None
) -> tuple[Problem, State]:
    random = torch.Generator().manual_seed(3)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=random, dtype=torch.float64)

    state = State(
        rotation=axis_angle_to_matrix(0.4 * normal(batch, 3)),
        log_scale=torch.full((batch,), -5.0, dtype=torch.float64),
        offset=0.1 * normal(batch, 2),
        log_focal=torch.tensor([0.8, 1.3], dtype=torch.float64)[:batch],
        coefficients=normal(batch, modes),
    )
    free = torch.full((modes,), torch.inf, dtype=torch.float64)
    problem = Problem(
        mean=60 * normal(batch, 9, 3),
        basis=5 * normal(batch, 9, 3, modes),
        target=0.3 * normal(batch, 9, 2),
        whitening=normal(batch, 9, 2, 2),
        lower=-free,
        upper=free,
        precision=torch.ones(modes, dtype=torch.float64),
        focal_precision=focal_precision,
        focal_centre=state.log_focal + 0.1,
        perspective=perspective,
    )
    return problem, state


@pytest.mark.parametrize("perspective", [False, True])
def test_jacobian_equals_autograd(perspective: bool) -> None:
    problem, state = _case(perspective)

    def residual(move: Tensor) -> Tensor:
        moved = State(
            rotation=axis_angle_to_matrix(move[:, :3]) @ state.rotation,
            log_scale=state.log_scale + move[:, 3],
            offset=state.offset + move[:, OFFSET],
            log_focal=state.log_focal + move[:, LOG_FOCAL],
            coefficients=state.coefficients + move[:, NUM_CAMERA:],
        )
        return (problem.whitening @ (project(problem, moved) - problem.target)[..., None]).flatten(1)

    zero = torch.zeros(2, NUM_CAMERA + 5, dtype=torch.float64)
    full = torch.autograd.functional.jacobian(residual, zero)  # [B, 2N, B, 7 + C]
    expected = torch.stack([full[b, :, b] for b in range(2)])
    values, columns = jacobian(problem, state)
    torch.testing.assert_close(values, residual(zero))
    torch.testing.assert_close(columns, expected)


def test_perspective_without_depth_is_orthographic() -> None:
    problem, state = _case(True)
    far = replace(state, log_focal=state.log_focal + 30)
    torch.testing.assert_close(project(problem, far), project(replace(problem, perspective=False), state))


@pytest.mark.parametrize("perspective", [False, True])
def test_steps_go_down_to_a_stationary_point(perspective: bool) -> None:
    problem, state = _case(perspective, focal_precision=16.0 if perspective else None)
    damping = torch.full((2,), 1e-3, dtype=torch.float64)
    values = [cost(problem, state)]
    for _ in range(60):
        state, damping, _ = step(problem, state, damping)
        values.append(cost(problem, state))
    assert bool((torch.stack(values).diff(dim=0) <= 1e-9).all())
    coefficients = state.coefficients.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(problem, replace(state, coefficients=coefficients)).sum(), coefficients)
    assert float(slope.abs().max()) < 1e-4 * float(values[-1].max())


def test_bounds_hold_and_are_optimal() -> None:
    problem, state = _case(False)
    lower, upper = torch.full((5,), -0.2, dtype=torch.float64), torch.full((5,), 0.3, dtype=torch.float64)
    problem = replace(problem, lower=lower, upper=upper, precision=1e-3 * problem.precision)
    state = replace(state, coefficients=torch.zeros(2, 5, dtype=torch.float64))
    damping = torch.full((2,), 1e-3, dtype=torch.float64)
    for _ in range(60):
        state, damping, system = step(problem, state, damping)
        assert bool(((state.coefficients >= lower) & (state.coefficients <= upper)).all())
    coefficients = state.coefficients.clone().requires_grad_()
    (slope,) = torch.autograd.grad(cost(problem, replace(state, coefficients=coefficients)).sum(), coefficients)
    at_lower, at_upper = state.coefficients == lower, state.coefficients == upper
    assert bool((at_lower | at_upper).any())
    assert bool((slope[at_lower] > 0).all())
    assert bool((slope[at_upper] < 0).all())
    assert float(slope[~at_lower & ~at_upper].abs().max()) < 1e-6 * float(cost(problem, state).max())
    # Pinned coefficients are not determined by the landmarks: at most six of pose and the free ones count.
    assert bool((determined(problem, system) <= 6 + (~at_lower & ~at_upper).sum(1)).all())


def test_determined_falls_from_all_to_pose_as_the_prior_grows() -> None:
    problem, state = _case(False)
    damping = torch.full((2,), 1e-9, dtype=torch.float64)

    def count(precision: float) -> Tensor:
        stiff = replace(problem, precision=problem.precision * precision)
        return determined(stiff, step(stiff, state, damping)[2])

    torch.testing.assert_close(count(1e-9), torch.full((2,), 11.0, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(count(1e9), torch.full((2,), 6.0, dtype=torch.float64), atol=1e-3, rtol=0)


def test_landmarks_of_no_weight_leave_a_finite_step() -> None:
    problem, state = _case(False)
    moved, _, _ = step(replace(problem, whitening=0 * problem.whitening), state, torch.full((2,), 1e-3).double())
    assert all(bool(value.isfinite().all()) for value in vars(moved).values())


def test_every_start_is_a_different_pose_of_the_grid() -> None:
    assert len(YAWS) * len(PITCHES) == MAX_STARTS
