"""From a photograph to fitted faces: detect, then run the stages of a fit on each face."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from garfast.devices import find_device
from garfast.errors import ArgumentError, GarfastError, LandmarkError, WeightsFileError
from garfast.fit.appearance import appearance_of
from garfast.fit.result import FitResult
from garfast.fit.stages import (
    FitState,
    Stage,
    geometry_stage,
    known,
    landmark_stage,
    run_many,
    shared_landmark_stage,
    texture_stage,
)
from garfast.fit.texture import unwrap
from garfast.io.digest import file_digest
from garfast.io.images import as_image
from garfast.landmarks import Detection, select_faces
from garfast.landmarks.boxes import bounding_box, face_size
from garfast.morphable import Camera, MorphableModel, load_model
from garfast.ops import vertex_normals

if TYPE_CHECKING:
    from PIL.Image import Image

    from garfast.fit.refine_config import RefineConfig
    from garfast.networks.renderer import Renderer

STAGES = ("landmarks", "inversion", "full")
"""How far a fit goes: equation 12 alone; with the inverter's style and noise, the geometry as it was; equation 10."""


def fit(
    image: str | os.PathLike[str] | np.ndarray | Image,
    *,
    face: int | str = "largest",
    landmarks: str | os.PathLike[str] | np.ndarray = "auto",
    model: str | os.PathLike[str] | MorphableModel | None = None,
    device: str | torch.device = "auto",
    projection: str = "orthographic",
    stages: str | Sequence[Stage] | None = None,
    weights: str | os.PathLike[str] | None = None,
    refinement: str | RefineConfig = "default",
    texture_size: int | None = None,
) -> FitResult:
    """Fit one face of a photograph.

    Args:
        image: a path, an array uint8 [H,W,3] (see `garfast.io.images.as_image` for others) or a PIL image.
        face: 'largest', or the number of the face by size: 1 is the largest.
        landmarks: where the 68 landmarks come from: 'auto', 'face-alignment', 'embedded' or 'file'; a landmark file or
            a folder of them (see `garfast.landmarks.detect`); or an array [68,2] or [N,68,2] in photo pixels, iBUG
            order, NaN where one is missing.
        model: a model, its name or its path; the default model where None.
        device: 'auto' (a GPU where there is one), 'cpu', 'cuda' ...
        projection: 'orthographic' (scaled) or 'pinhole'.
        stages: 'landmarks', 'inversion' or 'full' (see `STAGES`); None is full where there are weights of a renderer,
            else landmarks. Or stages of your own.
        weights: folder with the renderer's networks; None for those that come with the package.
        refinement: settings of the full fit, or the name of a preset: 'fast', 'default', 'best' or 'paper'.
        texture_size: side of the texture; None for 512, or 1024 where the photograph shows more than that holds.

    Raises:
        ImageFileError, ModelFileError, NoFaceError, LandmarkError, WeightsFileError, ArgumentError: one sentence each.
    """
    fitter = Fitter(
        landmarks=landmarks,
        model=model,
        device=device,
        projection=projection,
        stages=stages,
        weights=weights,
        refinement=refinement,
        texture_size=texture_size,
    )
    photo = as_image(image)
    source = Path(image) if isinstance(image, (str, os.PathLike)) else None
    detections = fitter.detect(photo, source)
    if face == "all":
        raise ArgumentError("fit returns one face: use garfast.fit.pipeline.fit_faces for all of them")
    (index,) = select_faces(range(1, len(detections) + 1), face)
    return fitter.fit(photo, detections[index - 1], source=source, index=index, count=len(detections))


def fit_faces(
    image: str | os.PathLike[str] | np.ndarray | Image,
    *,
    landmarks: str | os.PathLike[str] | np.ndarray = "auto",
    model: str | os.PathLike[str] | MorphableModel | None = None,
    device: str | torch.device = "auto",
    projection: str = "orthographic",
    stages: str | Sequence[Stage] | None = None,
    weights: str | os.PathLike[str] | None = None,
    refinement: str | RefineConfig = "default",
    texture_size: int | None = None,
) -> list[FitResult]:
    """Fit every face of a photograph, the largest first; arguments and errors are those of `fit`."""
    fitter = Fitter(
        landmarks=landmarks,
        model=model,
        device=device,
        projection=projection,
        stages=stages,
        weights=weights,
        refinement=refinement,
        texture_size=texture_size,
    )
    photo = as_image(image)
    source = Path(image) if isinstance(image, (str, os.PathLike)) else None
    detections = fitter.detect(photo, source)
    return [
        fitter.fit(photo, detection, source=source, index=index, count=len(detections))
        for index, detection in enumerate(detections, 1)
    ]


def default_stages(
    projection: str = "orthographic",
    texture_size: int | None = None,
    *,
    renderer: Renderer | None = None,
    refinement: RefineConfig | None = None,
    shared_shape: bool = False,
    at_once: int | None = None,
) -> tuple[Stage, ...]:
    """Landmarks, inversion (with a renderer), refinement (with settings for it as well), geometry, texture.

    With ``shared_shape``, all faces that are fitted together are one person's; ``at_once`` of them at a time go through
    the renderer's networks, None: all. ``texture_size`` is as for `fit`.
    """
    between: tuple[Stage, ...] = ()
    if renderer is not None:
        from garfast.fit.refinement_stages import inversion_stage, refinement_stage

        between = (inversion_stage(renderer, at_once=at_once),)
        if refinement is not None:
            stage = refinement_stage(renderer, refinement, shared_shape=shared_shape, at_once=at_once)
            between = (*between, stage)
    first = shared_landmark_stage(projection) if shared_shape else landmark_stage(projection)
    return first, *between, geometry_stage(), texture_stage(texture_size)


@dataclass(frozen=True, eq=False)
class Job:
    """One detected face of one photograph."""

    photo: np.ndarray
    detection: Detection
    source: Path | None = None
    index: int = 1
    count: int = 1


class Fitter:
    """Model, networks, device and detector of many fits, loaded once. Arguments and errors are those of `fit`.

    With ``shared_shape``, the faces of one `fit_many` are one person's and get one shape; ``at_once`` is as in
    `default_stages`.

    Attributes:
        notes: what a user should know about how photographs will be fitted, in sentences.
        renderer: the networks, and refinement: the settings; None where the stages named do without.
    """

    renderer: Renderer | None = None
    refinement: RefineConfig | None = None

    def __init__(
        self,
        *,
        landmarks: str | os.PathLike[str] | np.ndarray = "auto",
        model: str | os.PathLike[str] | MorphableModel | None = None,
        device: str | torch.device = "auto",
        projection: str = "orthographic",
        stages: str | Sequence[Stage] | None = None,
        weights: str | os.PathLike[str] | None = None,
        refinement: str | RefineConfig = "default",
        texture_size: int | None = None,
        shared_shape: bool = False,
        at_once: int | None = None,
    ) -> None:
        if projection not in ("orthographic", "pinhole"):
            raise ArgumentError(f"projection must be 'orthographic' or 'pinhole', not {projection!r}")
        self.device = find_device(device)
        loaded = model if isinstance(model, MorphableModel) else load_model(model)
        self.model = loaded.to(self.device)
        if not isinstance(landmarks, (str, os.PathLike)):
            try:
                landmarks = np.asarray(landmarks, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise LandmarkError(
                    "landmarks must be the name of a source, a path, or an array [68,2] or [N,68,2] of numbers"
                ) from error
        self.landmarks = landmarks
        self.notes: list[str] = []
        if stages is None or isinstance(stages, str):
            self._choose(stages, weights, refinement)
            stages = default_stages(
                projection,
                texture_size,
                renderer=self.renderer,
                refinement=self.refinement,
                shared_shape=shared_shape,
                at_once=at_once,
            )
        self.stages = tuple(stages)
        self._model_on_cpu = loaded.to("cpu")

    def detect(self, photo: np.ndarray, source: Path | None = None) -> list[Detection]:
        """The faces of a photograph uint8 [H,W,3], the largest first; ``source`` is its path where it has one."""
        from garfast.landmarks import detect
        from garfast.landmarks.sources import inside

        if isinstance(self.landmarks, np.ndarray):
            return inside(_given(self.landmarks), photo)
        return detect(photo, method=self.landmarks, path=source, device=str(self.device))

    def fit(
        self, photo: np.ndarray, detection: Detection, *, source: Path | None = None, index: int = 1, count: int = 1
    ) -> FitResult:
        """Fit one detected face, number ``index`` of ``count``, of a photograph uint8 [H,W,3]."""
        (outcome,) = self.fit_many([Job(photo, detection, source, index, count)])
        if isinstance(outcome, GarfastError):
            raise outcome
        return outcome

    def fit_many(self, jobs: Sequence[Job]) -> list[FitResult | GarfastError]:
        """Fit several faces together; the result of each, or why it failed.

        Raises:
            GarfastError: there is not enough memory for so many at once.
        """
        states = [FitState(image=job.photo, detection=job.detection, model=self.model) for job in jobs]
        outcomes = run_many(states, self.stages)
        return [
            outcome if isinstance(outcome, GarfastError) else self._result(outcome, job.source, job.index, job.count)
            for outcome, job in zip(outcomes, jobs, strict=True)
        ]

    def _choose(self, name: str | None, weights: str | os.PathLike[str] | None, refinement: str | RefineConfig) -> None:
        """Networks and settings for 'landmarks', 'inversion' or 'full'; None is full where there are weights."""
        from garfast.fit.refine_config import preset

        if name is not None and name not in STAGES:
            raise ArgumentError(f"stages must be one of {', '.join(STAGES)}, not {name!r}")
        settings = preset(refinement) if isinstance(refinement, str) else refinement
        if name == "landmarks":
            return
        if weights is None and not shipped_present():
            missing = (
                "there are no renderer weights in this installation: train some (see `garfast train --help`) and "
                "name their folder with --weights"
            )
            if name is not None:
                raise WeightsFileError(f"--stages {name} needs a renderer, but {missing}")
            self.notes.append(f"Fitting landmarks only: {missing}.")
            return
        from garfast.networks.renderer import load_renderer

        self.renderer = load_renderer(weights, device=self.device)
        self.refinement = None if name == "inversion" else settings

    def _result(self, state: FitState, source: Path | None, index: int, count: int) -> FitResult:
        model = self._model_on_cpu
        vertices = known(state.vertices, "vertices").detach().cpu()
        uv, uv_triangles = unwrap(model)
        fitted = _array(known(state.landmarks_fitted, "landmarks_fitted")[0])
        found = np.asarray(state.detection.landmarks, dtype=np.float32)
        residuals = np.linalg.norm(found - fitted, axis=1).astype(np.float32)
        return FitResult(
            image=state.image,
            source=source,
            sha256=None if source is None else file_digest(source),
            face_index=index,
            face_count=count,
            detection=state.detection,
            model=model,
            shape=_array(known(state.shape, "shape")[0]),
            exp=_array(known(state.exp, "exp")[0]),
            pose=known(state.pose, "pose").to("cpu"),
            camera=cast("Camera", known(state.camera, "camera")).to("cpu"),
            landmarks_fitted=fitted,
            residuals=residuals,
            nme=float(np.nanmean(residuals) / max(face_size(found), 1e-6)),
            converged=state.converged,
            vertices=_array(vertices[0]),
            vertices_camera=_array(known(state.vertices_camera, "vertices_camera")[0]),
            vertex_normals=_array(vertex_normals(vertices, model.triangles, adjacency=model.adjacency)[0]),
            triangles=model.triangles.numpy(),
            uv=uv.numpy(),
            uv_triangles=uv_triangles.numpy(),
            texture=known(state.texture, "texture"),
            normals=known(state.normals, "normals"),
            mask=known(state.mask, "mask"),
            stages=tuple(state.records),
            appearance=None if state.aligned is None else appearance_of(state.aligned),
            device=str(self.device),
            backends=_backends(self.device),
        )


def shipped_present() -> bool:
    """Whether weights of a renderer came with the package."""
    from garfast.networks.renderer import SHIPPED

    return (SHIPPED / "generator.safetensors").is_file()


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy()


def _given(landmarks: np.ndarray) -> list[Detection]:
    """Landmarks from the caller as detections, the largest face first."""
    points = landmarks[None] if landmarks.ndim == 2 else landmarks
    if points.ndim != 3 or points.shape[1:] != (68, 2) or len(points) == 0:
        raise LandmarkError(f"landmarks must be an array [68,2] or [N,68,2], not {list(landmarks.shape)}")
    if np.isinf(points).any() or np.isnan(points).all(1).any():
        raise LandmarkError("landmarks hold infinite values or nothing at all: give pixels, NaN where one is missing")
    faces = []
    for face in sorted(points, key=face_size, reverse=True):
        score = (~np.isnan(face).any(1)).astype(np.float32)
        faces.append(Detection(face, score, 1.0, bounding_box(face), "given"))
    return faces


def _backends(device: torch.device) -> dict[str, str]:
    from garfast.ops._dispatch import resolve

    return {op: resolve(op, "auto", device) for op in ("vertex_normals", "rasterize_normals")}
