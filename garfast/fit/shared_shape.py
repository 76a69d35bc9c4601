"""Equation 12 for several pictures of one person: one shape, and an expression, pose and camera for each.

Each picture's fit says how well it knows the shape once everything else of that picture has adapted: the Schur
complement of the shape in its normal equations. The shared shape is the most probable one under all of these and one
prior; then the pictures are fitted again with that shape, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.fit.landmark_config import LandmarkFitConfig
from garfast.fit.landmark_geometry import LandmarkGeometry
from garfast.fit.landmark_loop import FaceFrame, Track, final_problem, solve
from garfast.fit.landmark_solver import LOG_FOCAL, NUM_CAMERA, jacobian
from garfast.fit.landmarks_fit import CHUNK, LandmarkFit, checked_landmarks, landmark_fit_of
from garfast.morphable import MorphableModel

# Rounds of shape and pictures in turn; the third moves the shape by hundredths of a standard deviation.
ROUNDS = 3


def fit_landmarks_shared(
    model: MorphableModel,
    landmarks: Tensor,
    image_sizes: Sequence[tuple[int, int]],
    *,
    weights: Tensor | None = None,
    projection: str = "orthographic",
    config: LandmarkFitConfig | None = None,
    shape: Tensor | None = None,
) -> list[LandmarkFit]:
    """Fit one person's landmarks in several pictures.

    Args:
        model: the face model, on the device to compute on.
        landmarks: [B, 68, 2] photo pixels, NaN where missing.
        image_sizes: (height, width) of each picture.
        weights: [B, 68] reliabilities, as for `garfast.fit.landmarks_fit.fit_landmarks`.
        projection: 'orthographic' or 'pinhole'.
        config: settings.
        shape: [1, S] the person's shape where it is known already; only the rest is fitted then.

    Returns:
        One fit, a batch of 1, for each picture; all with the same shape.

    Raises:
        LandmarkError: as `fit_landmarks` does.
        ArgumentError: the arguments do not go together.
    """
    config = config or LandmarkFitConfig()
    if projection not in ("orthographic", "pinhole"):
        raise ArgumentError(f"projection must be 'orthographic' or 'pinhole', got {projection!r}")
    points, reliability = checked_landmarks(landmarks, weights, model.mean.device)
    if len(image_sizes) != len(points):
        raise ArgumentError(f"{len(points)} faces need as many picture sizes, not {len(image_sizes)}")
    geometry = LandmarkGeometry.from_model(model)
    frames = [
        FaceFrame.of(points[k : k + 1], reliability[k : k + 1], size, projection, config, k)
        for k, size in enumerate(image_sizes)
    ]
    faces = _stack(frames)
    if shape is None:
        known = _shared_shape(geometry, faces, config, _solve(geometry, faces, config))
        for _ in range(ROUNDS - 1):
            known = _shared_shape(geometry, faces, config, _with_shape(geometry, faces, config, known))
    else:
        known = shape.to(points).reshape(-1)
        if len(known) != geometry.num_shape:
            raise ArgumentError(f"the shape has {len(known)} coefficients, the model {geometry.num_shape}")
    track = _with_shape(geometry, faces, config, known)
    rows = [torch.tensor([k], device=points.device) for k in range(len(points))]
    return [
        landmark_fit_of(model, geometry, points[row], faces[row], track[row], size, config)
        for row, size in zip(rows, image_sizes, strict=True)
    ]


def _solve(geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig) -> Track:
    track = Track.empty(geometry, faces)
    for start in range(0, len(faces.size), CHUNK):
        rows = torch.arange(start, min(start + CHUNK, len(faces.size)), device=faces.size.device)
        track = track.put(rows, solve(geometry, faces[rows], config))
    return track


def _with_shape(geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig, shape: Tensor) -> Track:
    """Fit everything but the shape [S], which is part of the answer's coefficients."""
    count = geometry.num_shape
    fixed = replace(
        geometry,
        mean=geometry.mean + geometry.basis[..., :count] @ shape,
        basis=geometry.basis[..., count:].contiguous(),
        lower=geometry.lower[count:],
        upper=geometry.upper[count:],
        num_shape=0,
    )
    track = _solve(fixed, faces, config)
    coefficients = torch.cat([shape.expand(len(faces.size), -1), track.state.coefficients], 1)
    return replace(track, state=replace(track.state, coefficients=coefficients))


def _shared_shape(geometry: LandmarkGeometry, faces: FaceFrame, config: LandmarkFitConfig, track: Track) -> Tensor:
    """[S] the most probable shape, where each picture's problem is linear around its own fit."""
    problem, state = final_problem(geometry, faces, config, track), track.state
    residual, columns = jacobian(problem, state)
    normal, gradient = columns.mT @ columns, (columns.mT @ residual[..., None])[..., 0]
    first, last = NUM_CAMERA, NUM_CAMERA + geometry.num_shape
    shape = torch.arange(first, last, device=normal.device)
    others = torch.cat([torch.arange(first, device=normal.device), torch.arange(last, normal.shape[1]).to(shape)])
    # The prior of the expressions belongs to the pictures; that of the shape counts once and comes below.
    diagonal = normal.diagonal(dim1=1, dim2=2)
    diagonal[:, last:] += problem.precision[geometry.num_shape :]
    gradient[:, last:] += problem.precision[geometry.num_shape :] * state.coefficients[:, geometry.num_shape :]
    if problem.focal_precision is not None:
        diagonal[:, LOG_FOCAL] += problem.focal_precision
        gradient[:, LOG_FOCAL] += problem.focal_precision * (state.log_focal - problem.focal_centre)
    # What stands on a bound, or has no say (the focal length of an orthographic camera), does not adapt.
    bound = (state.coefficients <= problem.lower) | (state.coefficients >= problem.upper)
    camera = diagonal[:, :first] > 0
    camera[:, LOG_FOCAL] &= problem.focal_precision is not None  # else it is known
    free = torch.cat([camera, ~bound], 1)[:, others].to(normal.dtype)
    inner = normal[:, others][:, :, others] * free[:, :, None] * free[:, None]
    inner = inner + torch.diag_embed(1 - free) + 1e-9 * torch.diag_embed(inner.diagonal(dim1=1, dim2=2))
    across = normal[:, shape][:, :, others] * free[:, None]
    solved = torch.linalg.solve(inner, torch.cat([across.mT, (gradient[:, others] * free)[..., None]], 2))
    information = normal[:, shape][:, :, shape] - across @ solved[..., :-1]
    slope = gradient[:, shape] - (across @ solved[..., -1:])[..., 0]
    own = state.coefficients[:, : geometry.num_shape]
    total = information.sum(0) + torch.diag(problem.precision[: geometry.num_shape])
    right = ((information @ own[..., None])[..., 0] - slope).sum(0)
    return torch.linalg.solve(total, right)


def _stack(frames: Sequence[FaceFrame]) -> FaceFrame:
    """Faces of pictures of different sizes as one batch."""
    names = ("target", "weights", "centre", "size", "log_focal")
    return FaceFrame(
        **{name: torch.cat([getattr(frame, name) for frame in frames]) for name in names},
        perspective=frames[0].perspective,
    )
