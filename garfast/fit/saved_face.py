"""A fitted face read back from its folder, and changed: the start of rendering and editing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from garfast.errors import ArgumentError, ImageFileError, ModelFileError, ParametersFileError
from garfast.fit.changes import ANGLES, Setting, changed_coefficients
from garfast.fit.latent import FRAMES, LATENTS
from garfast.io.digest import file_digest
from garfast.io.images import read_image
from garfast.io.parameters import FitParameters, load_parameters
from garfast.io.video import is_video, open_video
from garfast.morphable import Camera, MorphableModel, Pose, camera_from_dict, euler_to_matrix, list_models, load_model
from garfast.morphable.rotation import matrix_to_axis_angle

TEXTURE_FILE = "mesh.png"


@dataclass(frozen=True, eq=False)
class Face:
    """Geometry of one face in a photograph's view; batch of 1, on the CPU.

    Attributes:
        model: the morphable model.
        shape: [1,S]; exp: [1,E]; standard deviations.
        pose: model space to camera space.
        camera: photo pixels.
    """

    model: MorphableModel
    shape: Tensor
    exp: Tensor
    pose: Pose
    camera: Camera

    @cached_property
    def vertices(self) -> Tensor:
        """[1,V,3] in camera space, mm."""
        return self.pose.apply(self.model.evaluate(self.shape, self.exp))

    @property
    def landmarks(self) -> Tensor:
        """[1,68,2] photo pixels."""
        return self.camera.project(self.model.landmarks(self.vertices))

    @property
    def angles(self) -> tuple[float, float, float]:
        """Yaw, pitch and roll, degrees."""
        yaw, pitch, roll = (float(torch.rad2deg(angle[0])) for angle in self.pose.euler())
        return yaw, pitch, roll

    def changed(self, settings: Sequence[Setting]) -> Face:
        """The face after settings; the head turns about the middle between its ears, which stays where it is.

        Raises:
            ArgumentError: there is no coefficient of a name.
        """
        shape, exp = changed_coefficients(self.model, self.shape, self.exp, settings)
        angles = dict(zip(ANGLES, self.angles, strict=True))
        for setting in settings:
            if setting.kind in ANGLES:
                angles[setting.kind] = setting.value + (angles[setting.kind] if setting.relative else 0.0)
        pose = self.pose
        if any(setting.kind in ANGLES for setting in settings):
            radians = [torch.deg2rad(torch.tensor([angles[name]])) for name in ANGLES]
            pose = self.turned(euler_to_matrix(*radians))
        return replace(self, shape=shape, exp=exp, pose=pose)

    def turned(self, rotation: Tensor) -> Pose:
        """The pose with another rotation [1,3,3] that leaves the middle between the ears where it is."""
        pivot = self.model.landmarks(self.model.evaluate(self.shape))[:, [0, 16]].mean(1)[..., None]
        stays = (self.pose.matrix() @ pivot)[..., 0] + self.pose.translation
        return Pose(matrix_to_axis_angle(rotation), stays - (rotation @ pivot)[..., 0])

    def toward(self, other: Face, share: float) -> Face:
        """Between this face (share 0) and another one's shape, expression and head angles (share 1).

        Raises:
            ArgumentError: they are of different models.
        """
        same_model(self.model, other.model)
        shape = torch.lerp(self.shape, other.shape, share)
        exp = torch.lerp(self.exp, other.exp, share)
        between = matrix_to_axis_angle(other.pose.matrix() @ self.pose.matrix().mT) * share
        step = Pose(between, torch.zeros_like(between)).matrix()
        pose = self.turned(step @ self.pose.matrix())
        return replace(self, shape=shape, exp=exp, pose=pose)


def same_model(first: MorphableModel, second: MorphableModel) -> None:
    """See that coefficients of one model mean the same in the other.

    Raises:
        ArgumentError: they do not.
    """
    if first.exp_names != second.exp_names or first.num_shape != second.num_shape:
        raise ArgumentError(
            f"the two faces were fitted with different models ('{first.name}' and '{second.name}'): fit both with one"
        )


@dataclass(frozen=True, eq=False)
class SavedFace:
    """A folder that ``garfast fit`` wrote.

    Attributes:
        folder: where.
        parameters: its ``params.json``.
        face: the fitted geometry.
        photo_path: the photograph, where it is no longer where it was.
        latent: where style and noise are, or would be: a folder, or the file of a film's frame.
    """

    folder: Path
    parameters: FitParameters
    face: Face
    photo_path: Path | None
    latent: Path

    @property
    def recorded_file(self) -> Path | None:
        """Where the photograph was when it was fitted, as far as that is known."""
        recorded = self.parameters.info.get("image", {}).get("file")
        return None if recorded is None else Path(recorded)

    @property
    def photo_file(self) -> Path | None:
        """Where the photograph is or was, as far as that is known."""
        return self.photo_path or self.recorded_file

    @cached_property
    def photo(self) -> np.ndarray:
        """The photograph, uint8 [H,W,3].

        Raises:
            ImageFileError: it is not where it was, or is another one.
        """
        path, digest = self.photo_file, self.parameters.info.get("image", {}).get("sha256")
        if path is None:
            raise ImageFileError(f"{self.folder} does not say which photograph was fitted: give it with --photo FILE")
        if not path.is_file():
            raise ImageFileError(f"the photograph {path} that was fitted is no longer there: give it with --photo FILE")
        photo = self._frame_of(path) if self.photo_path is None and is_video(path) else read_image(path)
        if photo.shape[:2] != self.face.camera.image_size:
            height, width = self.face.camera.image_size
            raise ImageFileError(
                f"{path} has {photo.shape[1]} x {photo.shape[0]} pixels, but the one that was fitted has {width} x "
                f"{height}: give the right one with --photo FILE"
            )
        # One that is given by name may be the same picture in another format.
        if self.photo_path is None and digest is not None and file_digest(path) != digest:
            raise ImageFileError(
                f"{path} is not the photograph that was fitted, or was changed: give it with --photo FILE"
            )
        return photo

    def _frame_of(self, film: Path) -> np.ndarray:
        """The frame of a film that was fitted."""
        number = int(self.parameters.info.get("frame", {}).get("number", 1))
        for frame in itertools.islice(open_video(film).frames, number - 1, number):
            return frame
        raise ImageFileError(f"the film {film} has no frame {number} any more: give it with --photo FILE")

    @cached_property
    def texture(self) -> Tensor:
        """The mesh's texture [3,T,T], 0..1.

        Raises:
            ImageFileError: the folder has none.
        """
        return torch.from_numpy(read_image(self.folder / TEXTURE_FILE)).permute(2, 0, 1).float() / 255


def load_face(
    folder: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | MorphableModel | None = None,
    photo: str | os.PathLike[str] | None = None,
) -> SavedFace:
    """Read a fitted face back.

    Args:
        folder: that ``garfast fit`` wrote, its ``params.json``, or the ``params/000001.json`` of a film's frame.
        model: the model that it was fitted with, where its name is not that of an installed one.
        photo: the photograph, where it is no longer where it was.

    Raises:
        ParametersFileError: there is no fit, or its numbers do not go with the model.
        ModelFileError: the model is not there, or its file is not a usable one.
    """
    folder = Path(folder)
    parameters = load_parameters(folder)
    latent = folder
    if folder.is_file():
        file, folder = folder, folder.parent
        latent = folder
        if folder.name == FRAMES:  # of a film's frame: texture and latents lie in the film's folder
            folder = folder.parent
            latent = folder / LATENTS / file.with_suffix(".safetensors").name
    name = str(parameters.model.get("name"))
    if isinstance(model, MorphableModel):
        loaded = model
    elif model is None and name not in {entry.name for entry in list_models()}:
        raise ModelFileError(
            f"{folder} was fitted with the model '{name}', which is not installed here: give its file with --model"
        )
    else:
        loaded = load_model(name if model is None else model)
    loaded = loaded.to("cpu")
    if (loaded.num_shape, loaded.num_exp) != (len(parameters.shape), len(parameters.exp)):
        raise ParametersFileError(
            f"{folder} holds {len(parameters.shape)} shape and {len(parameters.exp)} expression coefficients, but the "
            f"model '{loaded.name}' has {loaded.num_shape} and {loaded.num_exp}: use the model '{name}' it was "
            "fitted with"
        )
    if parameters.model.get("num_vertices", loaded.num_vertices) != loaded.num_vertices:
        raise ParametersFileError(
            f"{folder} was fitted with a model '{name}' of {parameters.model['num_vertices']} vertices, but the model "
            f"'{loaded.name}' has {loaded.num_vertices}: give the file of the one it was fitted with by --model"
        )
    try:
        pose = Pose(_row(parameters.pose["rotation"]), _row(parameters.pose["translation"]))
        camera = camera_from_dict(parameters.camera)
    except (KeyError, TypeError, ValueError, ArgumentError) as error:
        raise ParametersFileError(f"pose or camera in {folder} is malformed: fit the photograph again") from error
    face = Face(loaded, torch.from_numpy(parameters.shape)[None], torch.from_numpy(parameters.exp)[None], pose, camera)
    return SavedFace(folder, parameters, face, None if photo is None else Path(photo), latent)


def _row(values: object) -> Tensor:
    row = torch.tensor(values, dtype=torch.float32)[None]
    if not row.isfinite().all():
        raise ValueError("too large for a number")
    return row
