"""A first head pose from 68 landmarks, without any guess to start from."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from garfast.fit.landmark_solver import Problem, State, project, step
from garfast.morphable.rotation import euler_to_matrix

# Head angles, degrees, that the search starts from. Roll needs none: it comes out of a closed form.
YAWS = (-80.0, -55.0, -30.0, -10.0, 10.0, 30.0, 55.0, 80.0)
PITCHES = (-30.0, 0.0, 30.0)

# Landmarks that move little with expression: outer brows aside, the eye corners and the nose.
RIGID = (*range(27, 36), 36, 39, 42, 45)

# Weight of the landmarks that are not rigid, in the search for the pose.
SOFT_WEIGHT = 0.2


def initial_states(problem: Problem, weights: Tensor, count: int, steps: int = 6) -> State:
    """The ``count`` most plausible poses of the mean face for each face.

    For every head orientation of a coarse grid, the roll, scale and offset that fit best are found in closed form (a
    2D similarity of the projected mean landmarks, as complex numbers). The best ones are refined by a few
    Levenberg-Marquardt steps on the pose alone. Several are kept because a face that is nearly planar has a mirrored
    twin (left-right turned and looking the other way) that only the full model tells apart.

    Args:
        problem: its mean [B, N, 3] is the face to place; the basis is not used.
        weights: [B, N] reliability of each landmark, 0 where it is missing.
        count: how many to return.

    Returns:
        State of B * count faces, face-major, coefficients zero.
    """
    soft = weights.new_full((weights.shape[1],), SOFT_WEIGHT)
    soft[list(RIGID)] = 1.0
    weights = weights * soft
    weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    batch, mean = problem.mean.shape[0], problem.mean

    yaw, pitch = torch.meshgrid(torch.tensor(YAWS), torch.tensor(PITCHES), indexing="ij")
    yaw, pitch = (angle.reshape(-1).to(mean) * (math.pi / 180) for angle in (yaw, pitch))
    grid = euler_to_matrix(yaw, pitch, torch.zeros_like(yaw))  # [G, 3, 3]
    placed = torch.view_as_complex((mean[:, None] @ grid.mT)[..., :2].contiguous())  # [B, G, N]
    target = torch.view_as_complex(problem.target.contiguous())[:, None]
    share = weights[:, None].to(placed.dtype)
    from_centre, to_centre = (placed * share).sum(-1, keepdim=True), (target * share).sum(-1, keepdim=True)
    source, goal = placed - from_centre, target - to_centre
    factor = (share * source.conj() * goal).sum(-1) / (share.real * source.abs() ** 2).sum(-1)  # scale * e^(i roll)
    error = (share.real * (goal - factor[..., None] * source).abs() ** 2).sum(-1)

    kept = min(max(count, 4), grid.shape[0])
    best = error.topk(kept, dim=1, largest=False).indices  # [B, kept]
    factor = factor.gather(1, best)
    centre = to_centre[:, :, 0] - factor * from_centre[..., 0].gather(1, best)
    rotation = _roll_matrix(factor.angle()) @ grid[best]
    flat = State(
        rotation=rotation.flatten(0, 1),
        log_scale=factor.abs().clamp(min=1e-9).log().flatten(),
        offset=torch.view_as_real(centre).flatten(0, 1).contiguous(),
        log_focal=problem.focal_centre.repeat_interleave(kept),
        coefficients=mean.new_zeros(batch * kept, 0),
    )
    # Robust weights of the mean face's residuals, a tenth of the face for a landmark to lose most of its say.
    rigid = replace(
        problem,
        basis=problem.basis[..., :0],
        lower=problem.lower[:0],
        upper=problem.upper[:0],
        precision=problem.precision[:0],
        focal_precision=None,
    )[torch.arange(batch, device=mean.device).repeat_interleave(kept)]
    weights = weights.repeat_interleave(kept, 0)
    damping = mean.new_full((batch * kept,), 1e-3)
    eye = torch.eye(2, dtype=mean.dtype, device=mean.device)
    for _ in range(steps):
        squared = (project(rigid, flat) - rigid.target).square().sum(-1)
        robust = weights / (1 + squared / 0.01).square()
        flat, damping, _ = step(replace(rigid, whitening=robust.sqrt()[..., None, None] * eye), flat, damping)
    squared = (project(rigid, flat) - rigid.target).square().sum(-1)
    score = (weights * squared / (1 + squared / 0.01)).sum(1)
    # A head seen from behind is never what a detector found.
    score = torch.where(flat.rotation[:, 2, 2] < -0.1, torch.inf, score)
    order = score.view(batch, kept).topk(count, dim=1, largest=False).indices
    rows = (order + kept * torch.arange(batch, device=mean.device)[:, None]).flatten()
    chosen = flat[rows]
    return replace(chosen, coefficients=mean.new_zeros(batch * count, problem.basis.shape[-1]))


def _roll_matrix(angle: Tensor) -> Tensor:
    return euler_to_matrix(torch.zeros_like(angle), torch.zeros_like(angle), angle)
