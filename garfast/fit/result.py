"""What a fit returns: one face in arrays, with its files a method call away."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from garfast.io.meshes import MeshArrays, to_trimesh
from garfast.io.parameters import FitParameters
from garfast.landmarks import Detection
from garfast.morphable import Camera, MorphableModel, Pose

if TYPE_CHECKING:
    import trimesh

    from garfast.fit.appearance import Appearance


@dataclass(frozen=True)
class StageRecord:
    """What one stage of a fit did.

    Attributes:
        name: of the stage, such as 'landmarks'.
        seconds: it took.
        losses: its final losses and counters by name.
    """

    name: str
    seconds: float
    losses: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FitResult:
    """One face of one photograph, fitted. Arrays are float32 numpy arrays unless stated.

    Photo pixels: of the upright photograph, x right, y down, the centre of the top-left pixel is (0.5, 0.5). Camera
    space: right-handed, x right, y up, the camera looks along -z, millimetres. Model space: the head's own axes, x to
    image right, y up, z out of the face, millimetres.

    Attributes:
        image: uint8 [H,W,3], the photograph, RGB.
        source: the photograph's path, or None where an array was fitted.
        sha256: of the photograph's file, or None where an array was fitted.
        face_index: 1 for the largest face of the photograph, and so on.
        face_count: how many faces were found in it.
        detection: the landmarks that were fitted, with box, scores and the detector's name.
        model: the morphable model, on the CPU.
        shape: [S] identity coefficients, standard deviations.
        exp: [E] expression coefficients, standard deviations.
        pose: model space to camera space, batch of 1, on the CPU.
        camera: orthographic or pinhole, batch of 1, on the CPU; pixels of the original photograph.
        landmarks_fitted: [68,2] the fitted mesh's landmarks, photo pixels.
        residuals: [68] distances between found and fitted landmarks, pixels; NaN where a landmark was missing.
        nme: mean residual over the face's size (a fraction, not per cent).
        converged: whether the landmark fit converged.
        vertices: [V,3] model space, expression included.
        vertices_camera: [V,3] camera space.
        vertex_normals: [V,3] unit normals in model space.
        triangles: int32 [F,3], counter-clockwise seen from outside.
        uv: [U,2] texture coordinates, v up.
        uv_triangles: int32 [F,3] into ``uv``.
        texture: uint8 [T,T,3], row 0 is v = 1.
        normals: [h,w,3] unit normals in camera space, 0 where no face is. As large as the photograph, or smaller where
            that is longer than `garfast.fit.pictures.LONGEST_SIDE`.
        mask: bool [h,w], the pixels that the face covers.
        stages: what ran, in order.
        device: that computed it, such as 'cpu'.
        backends: implementation of each operator by name.
        appearance: the renderer's part of the fit; None where only the landmarks were fitted.
    """

    image: np.ndarray
    source: Path | None
    sha256: str | None
    face_index: int
    face_count: int
    detection: Detection
    model: MorphableModel
    shape: np.ndarray
    exp: np.ndarray
    pose: Pose
    camera: Camera
    landmarks_fitted: np.ndarray
    residuals: np.ndarray
    nme: float
    converged: bool
    vertices: np.ndarray
    vertices_camera: np.ndarray
    vertex_normals: np.ndarray
    triangles: np.ndarray
    uv: np.ndarray
    uv_triangles: np.ndarray
    texture: np.ndarray
    normals: np.ndarray
    mask: np.ndarray
    stages: tuple[StageRecord, ...]
    device: str
    backends: dict[str, str]
    appearance: Appearance | None = None

    @property
    def landmarks(self) -> np.ndarray:
        """[68,2] the landmarks that were found, photo pixels, iBUG order."""
        return np.asarray(self.detection.landmarks, dtype=np.float32)

    @property
    def detector(self) -> str:
        """Where the landmarks come from, in a few words; ``detection.source`` has a file's whole path."""
        source = self.detection.source
        return f"file {Path(source[5:]).name}" if source.startswith("file ") else source

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw (positive to image right), pitch (positive up) and roll of the head in degrees."""
        yaw, pitch, roll = (float(torch.rad2deg(angle[0])) for angle in self.pose.euler())
        return yaw, pitch, roll

    @property
    def intrinsics(self) -> np.ndarray:
        """[3,3] camera matrix K, photo pixels; see the camera's ``intrinsics``."""
        return _array(self.camera.intrinsics()[0])

    @property
    def opencv_matrix(self) -> np.ndarray:
        """[4,4] model space to camera space with x right, y down, z forward, mm."""
        return _array(self.camera.opencv_matrix(self.pose)[0])

    @property
    def opengl_matrix(self) -> np.ndarray:
        """[4,4] model space to camera space with x right, y up, the camera looking along -z, mm."""
        return _array(self.camera.opengl_matrix(self.pose)[0])

    @property
    def mean_residual(self) -> float:
        """Mean distance between found and fitted landmarks, pixels."""
        return float(np.nanmean(self.residuals))

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def mesh_arrays(self) -> MeshArrays:
        """The textured mesh in model space, mm, as the writers of `garfast.io.meshes` take it."""
        return MeshArrays(self.vertices, self.triangles, self.vertex_normals, self.uv, self.uv_triangles, self.texture)

    def mesh(self) -> trimesh.Trimesh:
        """The textured mesh in model space, mm, as `trimesh.Trimesh` (vertices repeated on texture seams)."""
        return to_trimesh(self.mesh_arrays())

    def parameters(self) -> FitParameters:
        """Everything but pictures and geometry, as ``params.json`` holds it."""
        yaw, pitch, roll = self.angles
        height, width = self.image.shape[:2]
        return FitParameters(
            model={
                "name": self.model.name,
                "num_vertices": self.model.num_vertices,
                "num_shape": self.model.num_shape,
                "num_exp": self.model.num_exp,
                "exp_names": list(self.model.exp_names),
                "licence": self.model.licence,
            },
            shape=self.shape,
            exp=self.exp,
            pose={
                "rotation": self.pose.rotation[0],
                "translation": self.pose.translation[0],
                "yaw": yaw,
                "pitch": pitch,
                "roll": roll,
            },
            camera=self.camera.to_dict(),
            landmarks=self.landmarks,
            landmarks_fitted=self.landmarks_fitted,
            residuals=self.residuals,
            info={
                "image": {
                    "file": None if self.source is None else os.path.abspath(self.source),
                    "sha256": self.sha256,
                    "width": width,
                    "height": height,
                },
                "face": {"index": self.face_index, "count": self.face_count},
                "detector": {
                    "source": self.detection.source,
                    "score": float(self.detection.score),
                    "box": np.asarray(self.detection.box, dtype=np.float32),
                    "landmark_scores": np.asarray(self.detection.landmarks_score, dtype=np.float32),
                },
                "intrinsics": self.intrinsics,
                "opencv": self.opencv_matrix,
                "opengl": self.opengl_matrix,
                "fit": {"mean_residual": self.mean_residual, "nme": self.nme, "converged": self.converged},
                "renderer": self._renderer(),
                "stages": [{"name": s.name, "seconds": s.seconds, "losses": s.losses} for s in self.stages],
                "device": self.device,
                "backends": self.backends,
                "versions": _versions(),
            },
        )

    def _renderer(self) -> dict[str, Any] | None:
        """Which renderer, how its pictures lie in the photograph, and whether the refinement was kept."""
        if self.appearance is None:
            return None
        latent = self.appearance.latent
        return {
            "weights": latent.renderer,
            "size": latent.alignment.size,
            "alignment": latent.alignment.matrix[0],
            "refinement": self.appearance.refinement,
        }

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write meshes, pictures, report and ``params.json`` into a folder that appears whole or not at all.

        Raises:
            OutputError: the folder exists already (unless ``overwrite`` and a fit wrote it) or cannot be written.
        """
        from garfast.fit.output import save_result

        return save_result(self, folder, overwrite=overwrite)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float32)


def _versions() -> dict[str, str]:
    from garfast import __version__

    return {
        "garfast": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
