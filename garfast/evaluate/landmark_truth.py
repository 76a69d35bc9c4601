"""Photographs with true landmarks: AFLW2000-3D's .mat files, and .pts, .npy, .txt or .json files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from garfast.errors import EvaluationError, LandmarkError
from garfast.io.images import is_image
from garfast.landmarks import find_landmark_file, read_landmarks
from garfast.landmarks.boxes import bounding_box, face_size

MAT_ORIGIN = 1.0
"""AFLW2000-3D counts pixels as MATLAB does: the centre of the top left one is (1, 1). Ours is (0.5, 0.5)."""


@dataclass(frozen=True, eq=False)
class LandmarkTruth:
    """A photograph and its true landmarks.

    Attributes:
        image: the photograph's file.
        landmarks: [68, 2] photo pixels; NaN where one is not known.
        yaw: degrees; None where the file does not say.
    """

    image: Path
    landmarks: NDArray[np.float32]
    yaw: float | None

    @property
    def box(self) -> NDArray[np.float32]:
        """[4] ``(x0, y0, x1, y1)`` around the landmarks."""
        return bounding_box(self.landmarks)

    @property
    def size(self) -> float:
        """``sqrt(width * height)`` of that box, pixels: what errors are divided by."""
        return face_size(self.landmarks)


def read_mat(path: str | os.PathLike[str], origin: float = MAT_ORIGIN) -> tuple[NDArray[np.float32], float | None]:
    """Landmarks [68, 2] in photo pixels and yaw in degrees of a .mat file of AFLW2000-3D.

    Args:
        path: holds ``pt3d_68`` [3 or 2, 68] and, for the yaw, ``Pose_Para`` (pitch, yaw, roll, ... in radians).
        origin: the file's coordinates of the centre of the top left pixel.

    Raises:
        EvaluationError: the file cannot be read, or holds no ``pt3d_68`` of this kind.
    """
    from scipy.io import loadmat

    try:
        values = loadmat(str(path), variable_names=("pt3d_68", "Pose_Para"))
    except Exception as error:  # scipy raises many kinds on files that are torn or of version 7.3
        raise EvaluationError(f"{path} is no readable .mat file (version 7 or older)") from error
    points = np.asarray(values.get("pt3d_68", np.zeros(0)))
    if points.dtype.kind not in "fiu" or points.shape not in ((3, 68), (2, 68)):
        raise EvaluationError(f"{path} holds no landmarks 'pt3d_68' of shape 3 x 68 as those of AFLW2000-3D")
    landmarks = (points[:2].T - origin + 0.5).astype(np.float32)
    if not np.isfinite(landmarks).all():
        raise EvaluationError(f"{path} holds landmarks that are not finite")
    pose = np.asarray(values.get("Pose_Para", np.zeros(0))).reshape(-1)
    yaw = float(np.degrees(float(pose[1]))) if pose.dtype.kind in "fiu" and len(pose) >= 3 else None
    return landmarks, yaw


def find_truth(folder: str | os.PathLike[str], origin: float = MAT_ORIGIN) -> list[LandmarkTruth]:
    """The photographs of a folder and its subfolders that have true landmarks beside them.

    Args:
        folder: holds photographs, each with a .mat file or another landmark file of the same stem.
        origin: of the .mat files, see `read_mat`.

    Raises:
        EvaluationError: there is none, or a file is malformed.
    """
    root = Path(folder)
    if not root.is_dir():
        raise EvaluationError(f"{root} is not a folder: one with photographs and their true landmarks was expected")
    found = []
    for image in sorted(p for p in root.rglob("*") if is_image(p)):
        mat = image.with_suffix(".mat")
        if mat.is_file():
            landmarks, yaw = read_mat(mat, origin)
        else:
            file = find_landmark_file(image)
            if file is None:
                continue
            try:
                landmarks, yaw = read_landmarks(file)[0].landmarks, None
            except LandmarkError as error:
                raise EvaluationError(str(error)) from error
        truth = LandmarkTruth(image, landmarks, yaw)
        if not truth.size > 0:
            raise EvaluationError(f"the true landmarks of {image} all lie on a line, so they have no size")
        found.append(truth)
    if not found:
        raise EvaluationError(
            f"no photograph in {root} has true landmarks beside it: NAME.jpg with NAME.mat (or .pts, .npy) was expected"
        )
    return found
