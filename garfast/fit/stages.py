"""The stages of a fit. Each reads and extends one state; what comes later goes between those that are there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from garfast.errors import ArgumentError, GarfastError
from garfast.fit.landmark_config import DETECTOR_NOISE, LandmarkFitConfig
from garfast.fit.landmark_geometry import with_contour
from garfast.fit.pictures import picture_size
from garfast.fit.rendering import Box, rasterize_crop
from garfast.fit.result import StageRecord
from garfast.fit.texture import sample_texture
from garfast.landmarks import Detection
from garfast.morphable import Camera, MorphableModel, Pose

if TYPE_CHECKING:
    from garfast.fit.landmarks_fit import LandmarkFit
    from garfast.fit.refinement_stages import AlignedFace

_DETECTORS = ("embedded", "face-alignment")
"""Sources whose landmarks a network found, rather than a person."""


@dataclass(eq=False)
class FitState:
    """What is known so far about one face. Tensors are on the model's device and have a batch of 1.

    A stage that improves ``shape``, ``exp``, ``pose`` or ``camera`` just replaces them; `geometry` and `appearance`
    come after it and turn them into meshes and pictures.

    Attributes:
        image: uint8 [H,W,3].
        detection: the landmarks to fit.
        model: the morphable model.
        shape: [1,S]; exp: [1,E]; standard deviations.
        pose: model space to camera space.
        camera: photo pixels.
        contour_vertices: [1,17] int64, the vertices that the jaw landmarks mean in this pose; -1: their own points.
        converged: whether the landmark fit converged.
        landmark_weights: [1,68] the landmark fit's; landmark_noise: [1] error that it expects of a coordinate, pixels.
        landmarks_fitted: [1,68,2] photo pixels.
        vertices: [1,V,3] model space, mm; vertices_camera: [1,V,3] camera space, mm.
        normals: [h,w,3] float32 and mask [h,w] bool, the normal map in the photograph's view.
        texture: uint8 [T,T,3].
        aligned: the face as the renderer sees it, where there is one.
        records: of the stages that ran.
    """

    image: np.ndarray
    detection: Detection
    model: MorphableModel
    shape: Tensor | None = None
    exp: Tensor | None = None
    pose: Pose | None = None
    camera: Camera | None = None
    contour_vertices: Tensor | None = None
    converged: bool = False
    landmark_weights: Tensor | None = None
    landmark_noise: Tensor | None = None
    landmarks_fitted: Tensor | None = None
    vertices: Tensor | None = None
    vertices_camera: Tensor | None = None
    normals: np.ndarray | None = None
    mask: np.ndarray | None = None
    texture: np.ndarray | None = None
    aligned: AlignedFace | None = None
    records: list[StageRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """One step of a fit: a name for reports, and a function that changes states and returns their losses by name.

    Attributes:
        name: of the stage.
        run: works on one face.
        batched: works on several faces at once, instead of ``run``.
    """

    name: str
    run: Callable[[FitState], dict[str, Any]] | None = None
    batched: Callable[[Sequence[FitState]], list[dict[str, Any]]] | None = None

    def apply(self, states: Sequence[FitState]) -> list[dict[str, Any] | GarfastError]:
        """Change states; the losses of each, or why it failed. Times are shared out evenly."""
        results: list[dict[str, Any] | GarfastError] = []
        start = time.perf_counter()
        if self.batched is not None:
            results += self.batched(states)
            share = (time.perf_counter() - start) / max(len(states), 1)
            for state, losses in zip(states, results, strict=True):
                assert isinstance(losses, dict)
                state.records.append(StageRecord(self.name, round(share, 4), losses))
            return results
        assert self.run is not None
        for state in states:
            start = time.perf_counter()
            try:
                losses = self.run(state)
            except GarfastError as error:
                results.append(error)
                continue
            state.records.append(StageRecord(self.name, round(time.perf_counter() - start, 4), losses))
            results.append(losses)
        return results


T = TypeVar("T")


def known(value: T | None, name: str) -> T:
    """A value of the state that a stage needs.

    Raises:
        ArgumentError: no stage before has set it.
    """
    if value is None:
        raise ArgumentError(f"no stage of the fit sets '{name}': see garfast.fit.pipeline.default_stages")
    return value


def run_stages(state: FitState, stages: Sequence[Stage]) -> FitState:
    """Run stages in order, noting time and losses of each."""
    (outcome,) = run_many([state], stages)
    if isinstance(outcome, GarfastError):
        raise outcome
    return outcome


def run_many(states: Sequence[FitState], stages: Sequence[Stage]) -> list[FitState | GarfastError]:
    """Run stages on several faces together; a face that fails in one takes no part in those that follow.

    Returns:
        The states in order, or the reason why one failed.
    """
    outcomes: list[FitState | GarfastError] = list(states)
    for stage in stages:
        rows = [row for row, outcome in enumerate(outcomes) if isinstance(outcome, FitState)]
        if not rows:
            break
        for row, result in zip(rows, stage.apply([states[row] for row in rows]), strict=True):
            if isinstance(result, GarfastError):
                outcomes[row] = result
    return outcomes


def landmark_config(detection: Detection) -> LandmarkFitConfig:
    """Settings of the landmark fit for landmarks from where the detection has them."""
    config = LandmarkFitConfig(contour=detection.contour)
    return replace(config, noise_min=DETECTOR_NOISE) if detection.source in _DETECTORS else config


def landmark_stage(projection: str = "orthographic") -> Stage:
    """Shape, expression, pose and camera from 68 landmarks (equation 12)."""

    def run(state: FitState) -> dict[str, Any]:
        from garfast.fit.landmarks_fit import fit_landmarks

        device = state.model.device
        landmarks = torch.as_tensor(np.asarray(state.detection.landmarks), dtype=torch.float32, device=device)
        scores = torch.as_tensor(np.asarray(state.detection.landmarks_score), dtype=torch.float32, device=device)
        height, width = state.image.shape[:2]
        fitted = fit_landmarks(
            state.model,
            landmarks[None],
            (height, width),
            weights=scores[None],
            projection=projection,
            config=landmark_config(state.detection),
        )
        return _landmarks_fitted(state, fitted)

    return Stage("landmarks", run)


def shared_landmark_stage(projection: str = "orthographic") -> Stage:
    """The same for several pictures of one person, which get one shape."""

    def run(states: Sequence[FitState]) -> list[dict[str, Any]]:
        from garfast.fit.shared_shape import fit_landmarks_shared

        fits = fit_landmarks_shared(
            states[0].model,
            torch.stack([torch.as_tensor(np.asarray(state.detection.landmarks)) for state in states]),
            [(state.image.shape[0], state.image.shape[1]) for state in states],
            weights=torch.stack([torch.as_tensor(np.asarray(state.detection.landmarks_score)) for state in states]),
            projection=projection,
            config=max((landmark_config(state.detection) for state in states), key=lambda config: config.noise_min),
        )
        return [_landmarks_fitted(state, fitted) for state, fitted in zip(states, fits, strict=True)]

    return Stage("landmarks", batched=run)


def _landmarks_fitted(state: FitState, fitted: LandmarkFit) -> dict[str, Any]:
    """Take over what the landmarks say of one face; returns the stage's losses."""
    state.shape, state.exp, state.pose, state.camera = fitted.shape, fitted.exp, fitted.pose, fitted.camera
    state.landmark_weights, state.landmark_noise = fitted.weights, fitted.noise
    state.contour_vertices, state.converged = fitted.contour_vertices, bool(fitted.converged[0])
    return landmark_losses(fitted)


def landmark_losses(fitted: LandmarkFit) -> dict[str, Any]:
    """What a landmark fit of one face says of itself, as plain values."""
    return {
        "residual": float(fitted.residuals[0].nanmean()),
        "nme": float(fitted.nme[0]),
        "iterations": int(torch.as_tensor(fitted.iterations).reshape(-1)[0]),
    }


def geometry_stage() -> Stage:
    """Vertices, fitted landmarks and the normal map of what the stages before found."""

    @torch.no_grad()
    def run(state: FitState) -> dict[str, Any]:
        model = state.model
        camera = cast("Camera", known(state.camera, "camera"))
        state.vertices = model.evaluate(known(state.shape, "shape"), known(state.exp, "exp"))
        state.vertices_camera = known(state.pose, "pose").apply(state.vertices)
        points = model.landmarks(state.vertices_camera)
        if state.contour_vertices is not None:
            points = with_contour(points, state.vertices_camera, state.contour_vertices)
        state.landmarks_fitted = camera.project(points)
        height, width = state.image.shape[:2]
        output = rasterize_crop(
            state.vertices_camera, model, camera, Box(0.0, 0.0, width, height), picture_size(height, width)
        )
        state.normals = output.normals[0].permute(1, 2, 0).contiguous().cpu().numpy()
        state.mask = (output.mask[0, 0] > 0.5).cpu().numpy()
        return {}

    return Stage("geometry", run)


def texture_stage(size: int | None = None) -> Stage:
    """The texture, sampled from the photograph; ``size`` as for `sample_texture`."""

    def run(state: FitState) -> dict[str, Any]:
        vertices = known(state.vertices_camera, "vertices_camera")
        camera = cast("Camera", known(state.camera, "camera"))
        state.texture = sample_texture(state.image, vertices[0], state.model, camera, size=size)
        return {}

    return Stage("texture", run)
