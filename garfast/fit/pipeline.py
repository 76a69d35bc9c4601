"""From a photograph to fitted faces: detect, then run the stages of a fit on each face."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from garfast.errors import ArgumentError, LandmarkError
from garfast.fit.result import FitResult
from garfast.fit.stages import FitState, Stage, geometry_stage, known, landmark_stage, run_stages, texture_stage
from garfast.fit.texture import TEXTURE_SIZE, unwrap
from garfast.io.images import as_image
from garfast.landmarks import Detection, select_faces
from garfast.morphable import Camera, MorphableModel, load_model
from garfast.ops import vertex_normals

if TYPE_CHECKING:
    from PIL.Image import Image


def fit(
    image: str | os.PathLike[str] | np.ndarray | Image,
    *,
    face: int | str = "largest",
    landmarks: str | os.PathLike[str] | np.ndarray = "auto",
    model: str | os.PathLike[str] | MorphableModel | None = None,
    device: str | torch.device = "auto",
    projection: str = "orthographic",
    stages: Sequence[Stage] | None = None,
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
        stages: what to run instead of `default_stages`.

    Raises:
        ImageFileError, ModelFileError, NoFaceError, LandmarkError, ArgumentError: one sentence each.
    """
    fitter = Fitter(landmarks=landmarks, model=model, device=device, projection=projection, stages=stages)
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
    stages: Sequence[Stage] | None = None,
) -> list[FitResult]:
    """Fit every face of a photograph, the largest first; arguments and errors are those of `fit`."""
    fitter = Fitter(landmarks=landmarks, model=model, device=device, projection=projection, stages=stages)
    photo = as_image(image)
    source = Path(image) if isinstance(image, (str, os.PathLike)) else None
    detections = fitter.detect(photo, source)
    return [
        fitter.fit(photo, detection, source=source, index=index, count=len(detections))
        for index, detection in enumerate(detections, 1)
    ]


def default_stages(projection: str = "orthographic", texture_size: int = TEXTURE_SIZE) -> tuple[Stage, ...]:
    """Landmarks, geometry, texture. A refinement belongs between the first two."""
    return landmark_stage(projection), geometry_stage(), texture_stage(texture_size)


class Fitter:
    """Model, device and detector of many fits, loaded once. Arguments and errors are those of `fit`."""

    def __init__(
        self,
        *,
        landmarks: str | os.PathLike[str] | np.ndarray = "auto",
        model: str | os.PathLike[str] | MorphableModel | None = None,
        device: str | torch.device = "auto",
        projection: str = "orthographic",
        stages: Sequence[Stage] | None = None,
    ) -> None:
        if projection not in ("orthographic", "pinhole"):
            raise ArgumentError(f"projection must be 'orthographic' or 'pinhole', not {projection!r}")
        self.device = _device(device)
        loaded = model if isinstance(model, MorphableModel) else load_model(model)
        self.model = loaded.to(self.device)
        self.landmarks = landmarks
        self.stages = tuple(default_stages(projection) if stages is None else stages)
        self._model_on_cpu = loaded.to("cpu")

    def detect(self, photo: np.ndarray, source: Path | None = None) -> list[Detection]:
        """The faces of a photograph uint8 [H,W,3], the largest first; ``source`` is its path where it has one."""
        from garfast.landmarks import detect

        if isinstance(self.landmarks, np.ndarray):
            return _given(self.landmarks)
        return detect(photo, method=self.landmarks, path=source, device=str(self.device))

    def fit(
        self, photo: np.ndarray, detection: Detection, *, source: Path | None = None, index: int = 1, count: int = 1
    ) -> FitResult:
        """Fit one detected face, number ``index`` of ``count``, of a photograph uint8 [H,W,3]."""
        state = run_stages(FitState(image=photo, detection=detection, model=self.model), self.stages)
        return self._result(state, source, index, count)

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
            nme=float(np.nanmean(residuals) / face_size(found)),
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
            device=str(self.device),
            backends=_backends(self.device),
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def face_size(landmarks: np.ndarray) -> float:
    """The size that errors are divided by: sqrt(width * height) of the box around landmarks [68,2], pixels."""
    width, height = np.nanmax(landmarks, axis=0) - np.nanmin(landmarks, axis=0)
    return float(np.sqrt(max(float(width * height), 1e-12)))


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float32).numpy()


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ArgumentError(f"{device!r} is no device: use 'auto', 'cpu', 'cuda' or the like") from error
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ArgumentError(f"the device {str(device)!r} cannot be used ({reason}): use 'cpu' or 'auto'") from error
    return chosen


def _given(landmarks: np.ndarray) -> list[Detection]:
    """Landmarks from the caller as detections, the largest face first."""
    points = np.asarray(landmarks, dtype=np.float32)
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[1:] != (68, 2) or len(points) == 0:
        raise LandmarkError(f"landmarks must be an array [68,2] or [N,68,2], not {list(np.shape(landmarks))}")
    if np.isinf(points).any() or np.isnan(points).all((1, 2)).any():
        raise LandmarkError("landmarks hold infinite values or nothing at all: give pixels, NaN where one is missing")
    faces = []
    for face in sorted(points, key=face_size, reverse=True):
        box = np.concatenate([np.nanmin(face, axis=0), np.nanmax(face, axis=0)])
        score = (~np.isnan(face).any(1)).astype(np.float32)
        faces.append(Detection(face, score, 1.0, box, "given"))
    return faces


def _backends(device: torch.device) -> dict[str, str]:
    from garfast.ops._dispatch import resolve

    return {op: resolve(op, "auto", device.type) for op in ("vertex_normals", "rasterize_normals")}
