"""Levenberg-Marquardt on pose and coefficients for landmark residuals, with hand-written derivatives.

Everything here is float64, batched over faces and in face units: the picture plane with y up, its origin at the
principal point (pinhole) or at the middle of the face (orthographic), and lengths divided by the size of the face in
the photo. So nothing depends on how large the photo is.

One formula serves both cameras. With ``X = R v``, image scale ``s`` and the image position ``o`` of the model's origin,

    u = (s X_xy + o) q,    q = 1 / (1 - kappa X_z),    kappa = s / f,

which is the pinhole camera at distance ``f / s`` from the model's origin, and the scaled orthographic one for
``kappa = 0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from garfast.fit.rows import Rows
from garfast.morphable.rotation import axis_angle_to_matrix

# Columns of the Jacobian before the coefficients: rotation (3), log scale, offset (2), log focal length.
NUM_CAMERA = 7
LOG_SCALE, OFFSET, LOG_FOCAL = 3, slice(4, 6), 6

# The perspective factor's denominator is kept above this: a point may not come nearer than a twentieth of the distance.
MIN_DEPTH = 0.05

# Solves within one step, each with the coefficients that crossed a bound pinned to it.
BOUND_ROUNDS = 3


@dataclass(frozen=True)
class State(Rows):
    """What is estimated, for B faces, in face units.

    Attributes:
        rotation: [B, 3, 3]. log_scale: [B], of face units per mm. offset: [B, 2]. log_focal: [B], of face units
            (ignored by an orthographic solve). coefficients: [B, C] standard deviations.
    """

    rotation: Tensor
    log_scale: Tensor
    offset: Tensor
    log_focal: Tensor
    coefficients: Tensor


@dataclass(frozen=True)
class Problem(Rows):
    """One weighted least-squares problem per face: ``|W (u - target)|^2 + sum_j precision_j (x_j - centre_j)^2``.

    Attributes:
        mean: [B, N, 3] mm. basis: [B, N, 3, C].
        target: [B, N, 2] landmarks in face units.
        whitening: [B, N, 2, 2] ``W``; zero for a landmark to be ignored.
        lower, upper: [C] bounds of the coefficients.
        precision: [C] of the coefficients, around 0.
        focal_precision: of the log focal length; None keeps it fixed.
        focal_centre: [B] log focal length the prior is centred on.
        perspective: pinhole (True) or scaled orthographic.
    """

    mean: Tensor
    basis: Tensor
    target: Tensor
    whitening: Tensor
    lower: Tensor
    upper: Tensor
    precision: Tensor
    focal_precision: float | None
    focal_centre: Tensor
    perspective: bool

    SHARED = ("lower", "upper", "precision", "focal_precision", "perspective")


def project(problem: Problem, state: State) -> Tensor:
    """Image points [B, N, 2] in face units."""
    return _project(problem, state)[0]


def jacobian(problem: Problem, state: State) -> tuple[Tensor, Tensor]:
    """Whitened residuals ``W (u - target)`` [B, 2 N] and their derivatives [B, 2 N, 7 + C].

    The rotation's three columns are those of an increment ``R <- exp([delta]x) R``; log scale, offset (2), log focal
    length and the coefficients follow.
    """
    image, position, q, kappa = _project(problem, state)
    whitening = problem.whitening
    scale_q = state.log_scale.exp()[:, None] * q
    x, y, z = position.unbind(-1)
    zero = torch.zeros_like(x)
    # d X / d delta = -[X]x, written out.
    turn = torch.stack([zero, z, -y, -z, zero, x, y, -x, zero], -1).unflatten(-1, (3, 3))
    depth = z[..., None]
    tilt = image * (q * kappa)[..., None]  # d image / d X_z
    upright = torch.eye(2, dtype=q.dtype, device=q.device)
    by_position = whitening @ torch.cat(
        [scale_q[..., None, None] * upright.expand(*q.shape, 2, 2), tilt[..., None]], -1
    )
    by_camera = torch.stack([scale_q[..., None] * position[..., :2] + tilt * depth, -tilt * depth], -1)
    by_log_scale, by_log_focal = (whitening @ by_camera).split(1, -1)
    by_offset = q[..., None, None] * whitening
    # A matrix product per landmark would be 68 tiny ones: three broadcast products are faster.
    first, second, third = (by_position @ state.rotation[:, None])[..., None].unbind(-2)
    basis = problem.basis[:, :, None]
    by_coefficients = first * basis[..., 0, :]
    by_coefficients.addcmul_(second, basis[..., 1, :]).addcmul_(third, basis[..., 2, :])
    columns = [by_position @ turn, by_log_scale, by_offset, by_log_focal, by_coefficients]
    residual = (whitening @ (image - problem.target)[..., None])[..., 0]
    return residual.flatten(1), torch.cat(columns, -1).flatten(1, 2)


def cost(problem: Problem, state: State) -> Tensor:
    """[B] value of the problem, priors included."""
    residual = problem.whitening @ (project(problem, state) - problem.target)[..., None]
    return residual.flatten(1).square().sum(1) + _prior(problem, state)


class System(NamedTuple):
    """What a step solved, kept for the uncertainty: Cholesky factor [B, 7 + C, 7 + C], free unknowns [B, 7 + C]."""

    factor: Tensor
    free: Tensor


def step(problem: Problem, state: State, damping: Tensor) -> tuple[State, Tensor, System]:
    """One damped Gauss-Newton step, taken where it lowers the cost.

    Bounds are kept by an active set: a coefficient that lies on a bound and is pushed outward stays there; one that
    would cross a bound goes to it, and the others are solved for again.

    Args:
        damping: [B] Marquardt's factor on the diagonal.

    Returns:
        The new state, the damping for the next step [B], and the system.
    """
    normal, gradient, value = _normal_equations(problem, state)
    free = _free(problem, state, gradient)
    diagonal = normal.diagonal(dim1=1, dim2=2)
    # A column that nothing depends on (all its landmarks ignored) must not make the system singular.
    ridge = diagonal * damping[:, None] + 1e-12 * diagonal.amax(1, keepdim=True)
    move, system = _bounded_solve(problem, state, normal + torch.diag_embed(ridge), gradient, free)
    moved = _move(problem, state, torch.nan_to_num(move))
    # At the minimum two equal costs differ by rounding only: that step counts as taken.
    better = cost(problem, moved) <= value * (1 + 1e-12)
    damping = torch.where(better, damping * 0.2, damping * 8).clamp(1e-9, 1e6)
    return moved.where(better, state), damping, system


def determined(problem: Problem, system: System) -> Tensor:
    """[B] how many of the unknowns the landmarks (not the priors) determine: MacKay's gamma, between 6 and 7 + C."""
    identity = torch.eye(system.factor.shape[1], dtype=system.factor.dtype, device=system.factor.device)
    spread = torch.linalg.solve_triangular(system.factor, identity, upper=False).square().sum(1)
    share = 1 - torch.nn.functional.pad(problem.precision, (NUM_CAMERA, 0)) * spread
    return (torch.nan_to_num(share).clamp(0, 1) * system.free).sum(1)


def _project(problem: Problem, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    offsets = problem.basis.flatten(1, 2) @ state.coefficients[..., None]
    shape = problem.mean + offsets.view(problem.mean.shape)
    position = shape @ state.rotation.mT
    scale = state.log_scale.exp()[:, None]
    kappa = scale / state.log_focal.exp()[:, None] if problem.perspective else torch.zeros_like(scale)
    q = 1 / (1 - kappa * position[..., 2]).clamp(min=MIN_DEPTH)
    image = (scale[..., None] * position[..., :2] + state.offset[:, None]) * q[..., None]
    return image, position, q, kappa


def _normal_equations(problem: Problem, state: State) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Newton matrix [B, 7 + C, 7 + C], half gradient [B, 7 + C] and value [B] of the cost."""
    residual, columns = jacobian(problem, state)
    normal = columns.mT @ columns
    gradient = (columns.mT @ residual[..., None])[..., 0]
    value = residual.square().sum(1) + _prior(problem, state)
    normal.diagonal(dim1=1, dim2=2)[:, NUM_CAMERA:] += problem.precision
    gradient[:, NUM_CAMERA:] += problem.precision * state.coefficients
    if problem.focal_precision is not None:
        normal[:, LOG_FOCAL, LOG_FOCAL] += problem.focal_precision
        gradient[:, LOG_FOCAL] += problem.focal_precision * (state.log_focal - problem.focal_centre)
    return normal, gradient, value


def _prior(problem: Problem, state: State) -> Tensor:
    value = state.coefficients.square() @ problem.precision
    if problem.focal_precision is not None:
        value = value + problem.focal_precision * (state.log_focal - problem.focal_centre).square()
    return value


def _free(problem: Problem, state: State, gradient: Tensor) -> Tensor:
    """[B, 7 + C] the unknowns that may move: not those on a bound that the gradient pushes outward."""
    slope = gradient[:, NUM_CAMERA:]
    at_lower = (state.coefficients <= problem.lower) & (slope > 0)
    at_upper = (state.coefficients >= problem.upper) & (slope < 0)
    camera = torch.ones_like(gradient[:, :NUM_CAMERA], dtype=torch.bool)
    camera[:, LOG_FOCAL] = problem.perspective and problem.focal_precision is not None
    return torch.cat([camera, ~(at_lower | at_upper)], 1)


def _bounded_solve(
    problem: Problem, state: State, normal: Tensor, gradient: Tensor, free: Tensor
) -> tuple[Tensor, System]:
    """Minimise ``d^T normal d / 2 + gradient^T d`` within the bounds, over the ``free`` unknowns."""
    low = torch.nn.functional.pad(problem.lower - state.coefficients, (NUM_CAMERA, 0), value=-torch.inf)
    high = torch.nn.functional.pad(problem.upper - state.coefficients, (NUM_CAMERA, 0), value=torch.inf)
    move = torch.zeros_like(gradient)
    for _ in range(BOUND_ROUNDS):
        keep = free.to(normal.dtype)
        factor, _ = torch.linalg.cholesky_ex(normal * keep[:, :, None] * keep[:, None, :] + torch.diag_embed(1 - keep))
        pinned = (normal @ (move * (1 - keep))[..., None])[..., 0]
        solved = torch.cholesky_solve((-(gradient + pinned) * keep)[..., None], factor)[..., 0]
        move = torch.where(free, solved, move)
        crossing = free & ((move < low) | (move > high))
        move = torch.maximum(torch.minimum(move, high), low)
        system = System(factor, free)
        if not bool(crossing.any()):
            break
        free = free & ~crossing
    return move, system


def _move(problem: Problem, state: State, move: Tensor) -> State:
    # A turn of more than half a radian or a scale change beyond e in one step only comes from a bad linearisation.
    turn = move[:, :3]
    turn = turn * (0.5 / turn.norm(dim=1, keepdim=True).clamp(min=0.5))
    return State(
        rotation=axis_angle_to_matrix(turn) @ state.rotation,
        log_scale=state.log_scale + move[:, LOG_SCALE].clamp(-1, 1),
        offset=state.offset + move[:, OFFSET],
        log_focal=state.log_focal + move[:, LOG_FOCAL].clamp(-1, 1),
        coefficients=(state.coefficients + move[:, NUM_CAMERA:]).clamp(problem.lower, problem.upper),
    )
