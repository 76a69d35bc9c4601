"""Equation 12: pose and coefficients of a face model from 68 landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from garfast.errors import ArgumentError, LandmarkError
from garfast.fit.landmark_config import LandmarkFitConfig
from garfast.fit.landmark_geometry import NUM_LANDMARKS, LandmarkGeometry
from garfast.fit.landmark_loop import FaceFrame, Track, solve
from garfast.morphable import MorphableModel, OrthographicCamera, PinholeCamera, Pose
from garfast.morphable.rotation import matrix_to_axis_angle

# Fewer say nothing about a face: 6 numbers of pose and some shape.
MIN_LANDMARKS = 8

# Cosine between the face's direction and the viewer's below which the face could not have been seen.
FROM_BEHIND = -0.35

# Faces solved at once: bounds the memory (about 0.5 MB a face for 160 coefficients) and stays in the cache.
CHUNK = 32


@dataclass(frozen=True, eq=False)
class LandmarkFit:
    """What the landmarks say about B faces; tensors have the model's dtype and device.

    Attributes:
        shape: [B, S] identity coefficients, standard deviations.
        exp: [B, E] expression coefficients, standard deviations, within ``exp_bounds``.
        pose: model to camera space. Orthographic: translation 0, the camera's offset does its job.
        camera: orthographic or pinhole, photo pixels.
        projected: [B, 68, 2] the fitted model's landmarks, photo pixels; contour landmarks where they slid to.
        residuals: [B, 68] distances of ``projected`` to the given landmarks, pixels; NaN where one was missing.
        nme: [B] mean residual of the landmarks with a positive weight, over the face size.
        weights: [B, 68] final weights, robust factor included: near 0 for a landmark taken for wrong.
        noise: [B] estimated error of a landmark's coordinate, pixels.
        converged: [B] bool: the fit stands still, its mean error is small and the face looks toward the camera.
        contour_vertices: [B, 17] int64 the model's vertex that each contour landmark means in this pose; -1: its own
            point.
        iterations: [B] int64 outer iterations used.
    """

    shape: Tensor
    exp: Tensor
    pose: Pose
    camera: OrthographicCamera | PinholeCamera
    projected: Tensor
    residuals: Tensor
    nme: Tensor
    weights: Tensor
    noise: Tensor
    converged: Tensor
    contour_vertices: Tensor
    iterations: Tensor


def fit_landmarks(
    model: MorphableModel,
    landmarks: Tensor,
    image_size: tuple[int, int],
    *,
    weights: Tensor | None = None,
    projection: str = "orthographic",
    config: LandmarkFitConfig | None = None,
) -> LandmarkFit:
    """Fit pose, identity and expression to 68 landmarks (equation 12 of Inverting GAR).

    Levenberg-Marquardt with analytic derivatives, from a pose found without a guess, in double precision. Contour
    landmarks, robust weights and the landmarks' noise are re-estimated between steps.

    Args:
        model: any face model, on the device to compute on.
        landmarks: [B, 68, 2] or [68, 2] iBUG landmarks, photo pixels (y down, pixel centres at +0.5). NaN marks a
            missing one.
        image_size: (height, width) of the photo, pixels.
        weights: [B, 68] or [68] reliabilities >= 0, such as a detector's scores; 0 leaves a landmark out.
        projection: 'orthographic' (scaled) or 'pinhole'.
        config: see :class:`LandmarkFitConfig`.

    Returns:
        One :class:`LandmarkFit` for all faces.

    Raises:
        LandmarkError: wrong number of landmarks, infinite values, too few of them, or all in one place.
        ArgumentError: another argument is malformed.
    """
    config = config or LandmarkFitConfig()
    if projection not in ("orthographic", "pinhole"):
        raise ArgumentError(f"projection must be 'orthographic' or 'pinhole', got {projection!r}")
    points, reliability = checked_landmarks(landmarks, weights, model.mean.device)
    geometry = LandmarkGeometry.from_model(model)
    faces = FaceFrame.of(points, reliability, image_size, projection, config)
    track = Track.empty(geometry, faces)
    for start in range(0, points.shape[0], CHUNK):
        rows = torch.arange(start, min(start + CHUNK, points.shape[0]), device=points.device)
        track = track.put(rows, solve(geometry, faces[rows], config))
    return landmark_fit_of(model, geometry, points, faces, track, image_size, config)


def check_face(landmarks: np.ndarray, scores: np.ndarray) -> None:
    """See that one face's landmarks [68, 2] can be fitted; before the fit of many, that is.

    Raises:
        LandmarkError: as `fit_landmarks` does.
    """
    points = checked_landmarks(torch.from_numpy(landmarks), torch.from_numpy(scores), torch.device("cpu"))
    FaceFrame.of(*points, (1, 1), "orthographic", LandmarkFitConfig())


def checked_landmarks(landmarks: Tensor, weights: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Landmarks [B, 68, 2] and weights [B, 68], float64 on the device; weight 0 where NaN."""
    points = torch.as_tensor(landmarks).to(device, torch.float64)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[1:] != (NUM_LANDMARKS, 2):
        raise LandmarkError(f"landmarks must have shape [B, {NUM_LANDMARKS}, 2], got {list(landmarks.shape)}")
    if bool(points.isinf().any()):
        raise LandmarkError("landmarks contain infinite values: give pixels, NaN where one is missing")
    reliability = torch.ones_like(points[..., 0])
    if weights is not None:
        given = torch.as_tensor(weights).to(points)
        if given.shape not in (reliability.shape, reliability.shape[1:]):
            raise ArgumentError(f"weights must have shape {list(reliability.shape)}, got {list(given.shape)}")
        if not bool(((given >= 0) & given.isfinite()).all()):
            raise ArgumentError("weights must be finite and not negative")
        reliability = given.expand_as(reliability)
    reliability = torch.where(points.isnan().any(-1), 0, reliability)
    few = (reliability > 0).sum(1) < MIN_LANDMARKS
    if bool(few.any()):
        which = "the face" if len(few) == 1 else f"face {int(few.nonzero()[0]) + 1}"
        raise LandmarkError(f"{which} has fewer than {MIN_LANDMARKS} landmarks that are not missing or of weight 0")
    return points, reliability


def landmark_fit_of(
    model: MorphableModel,
    geometry: LandmarkGeometry,
    points: Tensor,
    faces: FaceFrame,
    track: Track,
    image_size: tuple[int, int],
    config: LandmarkFitConfig,
) -> LandmarkFit:
    """What solved tracks [B] mean in photo pixels, for landmarks [B, 68, 2]."""
    state, size = track.state, faces.size

    def out(value: Tensor) -> Tensor:
        return value.to(model.mean.dtype)

    flip = points.new_tensor([1.0, -1.0])
    projected = track.projected * flip * size[:, None, None] + faces.centre[:, None]
    residuals = (projected - points).norm(dim=-1)
    nme = torch.where(faces.weights > 0, residuals, torch.nan).nanmean(1) / size
    scale = state.log_scale.exp()  # face sizes per mm
    camera: OrthographicCamera | PinholeCamera
    if faces.perspective:
        focal = state.log_focal.exp()
        position = torch.cat([state.offset / scale[:, None], -(focal / scale)[:, None]], 1)
        pixels = (focal * size)[:, None].expand(-1, 2)
        camera = PinholeCamera(out(pixels), out(faces.centre), image_size)
    else:
        position = torch.zeros_like(state.rotation[:, 0])
        offset = state.offset * flip * size[:, None] + faces.centre
        camera = OrthographicCamera(out(scale * size), out(offset), image_size)
    return LandmarkFit(
        shape=out(state.coefficients[:, : geometry.num_shape]),
        exp=out(state.coefficients[:, geometry.num_shape :]),
        pose=Pose(out(matrix_to_axis_angle(state.rotation)), out(position)),
        camera=camera,
        projected=out(projected),
        residuals=out(residuals),
        nme=out(nme),
        weights=out(track.weights),
        noise=out(track.noise * size),
        # With left and right swapped, a head seen from behind fits perfectly.
        converged=track.settled & (nme <= config.max_nme) & (state.rotation[:, 2, 2] > FROM_BEHIND),
        contour_vertices=geometry.contour_vertices(track.contour),
        iterations=track.iterations,
    )
