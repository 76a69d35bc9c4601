"""Synthetic portraits on the alignment template with their exact geometry: what the renderer's networks learn from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError, TrainingError
from garfast.io.processes import one_thread_each
from garfast.landmarks.alignment import align_images, align_landmarks
from garfast.morphable import MorphableModel, Pose, camera_from_dict, load_model
from garfast.ops import RasterOutput, rasterize_normals
from garfast.synth import SynthConfig
from garfast.train.columns import Layout, fill_columns, read_columns, rows_done

SYNTH = SynthConfig(
    face_scale=(0.45, 0.5),
    centre_jitter=0.02,
    max_yaw=50,
    tail_yaw=70,
    max_pitch=18,
    tail_pitch=28,
    max_roll=12,
    tail_roll=20,
    distance=(450.0, 3000.0),
    hat=0.04,
    glasses=0.1,
    object=0.0,
    photo_faults=0.2,
    busy_background=0.25,
    photos_per_person=4,
    normals=False,
)
"""What the portraits show: mild camera faults, nothing held before the face, mostly quiet backgrounds (a small renderer
should spend itself on faces), four pictures of each person."""
HELD_OUT = 1024
"""Rows, from the first, that no training sees; a multiple of the photographs of a person."""
_MARGIN = 1.25
"""Side of a photograph before alignment over its side after."""
_PROJECTIONS = ("orthographic", "pinhole")


class Geometry(NamedTuple):
    """Faces of one model under one projection, with their rows in the batch."""

    rows: Tensor  # [b] int64, places in the batch
    model: MorphableModel
    shape: Tensor  # [b, S] standard deviations
    exp: Tensor  # [b, E]
    pose: Pose  # aligned camera space
    camera: Tensor  # [b, 4] NDC coefficients, see rasterize_normals
    projection: str

    def vertices(self) -> Tensor:
        """[b, V, 3] in camera space, mm."""
        return self.pose.apply(self.model.evaluate(self.shape, self.exp))

    def to(self, device: torch.device | str) -> Geometry:
        """The same faces on another device."""
        device = torch.empty(0, device=device).device  # with its index
        if self.camera.device == device:
            return self
        return self._replace(
            rows=self.rows.to(device),
            model=_on(self.model, device),
            shape=self.shape.to(device),
            exp=self.exp.to(device),
            pose=self.pose.to(device),
            camera=self.camera.to(device),
        )


@lru_cache(maxsize=8)
def _on(model: MorphableModel, device: torch.device) -> MorphableModel:
    """A model on another device, where it stays: every batch needs it, and what it computes once."""
    return model.to(device)


class PortraitSource(ABC):
    """Aligned synthetic photographs with their geometry; the first `HELD_OUT` are for measuring.

    Attributes:
        count: how many portraits there are.
        size: their side, pixels.
        models: the face models they show.
    """

    count: int
    size: int
    models: tuple[MorphableModel, ...]

    @abstractmethod
    def arrays(self, rows: NDArray[np.integer], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Some columns of some portraits, as :func:`portrait` makes them, stacked."""

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> Tensor:
        """uint8 [B, 3, size, size] sRGB."""
        images = self.arrays(np.asarray(rows), ["images"])["images"]
        return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def landmarks(self, rows: Sequence[int] | NDArray[np.integer]) -> Tensor:
        """float32 [B, 68, 2] aligned pixels, the model's own (3D-consistent) landmarks."""
        return torch.from_numpy(self.arrays(np.asarray(rows), ["landmarks"])["landmarks"])

    def person(self, rows: Sequence[int] | NDArray[np.integer]) -> Tensor:
        """int64 [B] who it is: rows with the same number show the same identity with the same looks."""
        return torch.from_numpy(self.arrays(np.asarray(rows), ["person"])["person"].astype(np.int64))

    def geometry(self, rows: Sequence[int] | NDArray[np.integer]) -> list[Geometry]:
        """The true faces, grouped by model and projection."""
        columns = self.arrays(np.asarray(rows), ["model", "pinhole", "shape", "exp", "pose", "camera"])
        groups = []
        for k, model in enumerate(self.models):
            for p, projection in enumerate(_PROJECTIONS):
                places = np.flatnonzero((columns["model"] == k) & (columns["pinhole"] == p))
                if not len(places):
                    continue
                values = {name: torch.from_numpy(columns[name][places]) for name in ("shape", "exp", "pose", "camera")}
                pose = Pose(values["pose"][:, :3], values["pose"][:, 3:])
                shape, exp = values["shape"][:, : model.num_shape], values["exp"][:, : model.num_exp]
                place = torch.from_numpy(places)
                groups.append(Geometry(place, model, shape, exp, pose, values["camera"], projection))
        return groups

    def normal_maps(
        self, rows: Sequence[int] | NDArray[np.integer], resolutions: int | Sequence[int]
    ) -> Tensor | list[Tensor]:
        """True normal maps [B, 3, r, r] for one resolution, or a list of them for several."""
        return normal_maps(self.geometry(rows), len(rows), resolutions)


class Portraits(PortraitSource):
    """A folder that :func:`draw_portraits` filled, finished or still growing.

    Args:
        folder: the folder.
        models: face models by name where they are at hand already; others are loaded by the names in the folder.

    Raises:
        TrainingError: the folder holds no portraits.
        ModelFileError: a face model they were made with is missing.
    """

    def __init__(self, folder: str | os.PathLike[str], models: Sequence[MorphableModel] = ()) -> None:
        self.folder = Path(folder)
        try:
            settings, self._arrays = read_columns(self.folder, _layout(8, 1, 1))
            self.count = rows_done(self.folder)
        except (OSError, ValueError) as error:
            raise TrainingError(f"{folder} holds no portraits: make some with `garfast train portraits`") from error
        known = {model.name: model for model in models}
        self.models = tuple(known.get(name) or load_model(name) for name, _ in settings["models"])
        self.size = int(settings["size"])

    def arrays(self, rows: NDArray[np.integer], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        return {name: self._arrays[name][rows] for name in names}


class LivePortraits(PortraitSource):
    """Portraits drawn when they are asked for: nothing on the disk, about 20 ms each; the last ones are remembered.

    Row ``k`` is what :func:`draw_portraits` would write as row ``k`` with the same settings.

    Args:
        models: face models and their shares.
        size: side of the aligned pictures, pixels.
        seed: of the synthetic photographs.
        config: what the photographs show.
    """

    count = 1_000_000

    def __init__(
        self,
        models: Sequence[tuple[MorphableModel, float]],
        size: int,
        seed: int = 0,
        config: SynthConfig = SYNTH,
    ) -> None:
        self.size, self.models = size, tuple(model for model, _ in models)
        self._photos_per_person = config.photos_per_person
        self._drawing = _Drawing(models, size, seed, config, range(self.count))
        self._last: dict[int, dict[str, Any]] = {}

    def person(self, rows: Sequence[int] | NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(np.asarray(rows, np.int64) // self._photos_per_person)

    def arrays(self, rows: NDArray[np.integer], names: Sequence[str]) -> dict[str, NDArray[Any]]:
        wanted = [int(row) for row in rows]
        missing = [row for row in dict.fromkeys(wanted) if row not in self._last]
        known = self._last | dict(zip(missing, self._drawing.draw(missing), strict=True))
        self._last = {row: known[row] for row in wanted}
        return {name: np.stack([self._last[row][name] for row in wanted]) for name in names}


class Photos(Protocol):
    """A source of aligned photographs."""

    count: int
    size: int

    def take(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        """uint8 [B, 3, size, size]."""


def taken_pictures(
    photos: Photos, rows: Sequence[int] | NDArray[np.integer], size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Photographs [B, 3, size, size] in -1..1."""
    return resize(photos.take(rows).to(device).float() / 127.5 - 1, size)


def resize(images: Tensor, size: int) -> Tensor:
    """Square pictures at another size, without aliasing."""
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images.float(), (size, size), mode="bilinear", align_corners=False, antialias=True)


SYNTH_WORD = "synth"
"""Stands for portraits drawn on the fly where a folder of them is expected."""


def open_portraits(
    where: str | os.PathLike[str], models: Sequence[tuple[MorphableModel, float]], size: int, seed: int = 0
) -> PortraitSource:
    """Portraits of a folder, or drawn on the fly where ``where`` is 'synth'.

    Args:
        where: a folder that :func:`draw_portraits` filled, or 'synth'.
        models: face models and their shares; a folder loads others than these by its own settings.
        size: side of portraits drawn on the fly, pixels.
        seed: of portraits drawn on the fly.

    Raises:
        TrainingError: the folder holds no portraits.
    """
    if str(where) == SYNTH_WORD:
        return LivePortraits(models, size, seed)
    return Portraits(where, [model for model, _ in models])


def normal_maps(groups: Sequence[Geometry], batch: int, resolutions: int | Sequence[int]) -> Tensor | list[Tensor]:
    """Rasterise groups of faces into the normal maps of one batch: [B, 3, r, r], a list of them for several sizes."""
    sizes = [resolutions] if isinstance(resolutions, int) else list(resolutions)
    maps: list[Tensor] = []
    for group in groups:
        _, outputs = rasterized(group, sizes)
        if not maps:
            maps = [output.normals.new_zeros(batch, *output.normals.shape[1:]) for output in outputs]
        maps = [whole.index_copy(0, group.rows, output.normals) for whole, output in zip(maps, outputs, strict=True)]
    return maps[0] if isinstance(resolutions, int) else maps


def rasterized(group: Geometry, resolutions: Sequence[int]) -> tuple[Tensor, list[RasterOutput]]:
    """A group's vertices in camera space, [b, V, 3] mm, and what the pictures of several sizes show of them."""
    vertices = group.vertices()
    outputs = rasterize_normals(
        vertices,
        group.model.triangles,
        group.camera,
        list(resolutions),
        projection=group.projection,
        adjacency=group.model.adjacency,
    )
    assert not isinstance(outputs, RasterOutput)
    return vertices, outputs


def landmark_places(groups: Sequence[Geometry], batch: int) -> Tensor:
    """Projected landmarks of all faces: [B, 68, 2], x right and y down, the picture spans -1..1."""
    places: Tensor | None = None
    for group in groups:
        points = group.model.landmarks(group.vertices())
        flat = points[..., :2] / -points[..., 2:] if group.projection == "pinhole" else points[..., :2]
        ndc = (flat * group.camera[:, None, :2] + group.camera[:, None, 2:]) * flat.new_tensor([1.0, -1.0])
        if places is None:
            places = ndc.new_zeros(batch, *ndc.shape[1:])
        places = places.index_copy(0, group.rows, ndc)
    assert places is not None
    return places


def draw_portraits(
    folder: str | os.PathLike[str],
    count: int,
    size: int,
    seed: int,
    models: Sequence[tuple[MorphableModel, float]],
    *,
    workers: int = 0,
    config: SynthConfig = SYNTH,
    progress: bool = True,
) -> None:
    """Fill a folder with portraits; goes on where an earlier call stopped.

    Row ``k`` depends on the settings and ``k`` alone.

    Args:
        folder: where to.
        count: how many in all; about ``3 * size^2`` bytes each.
        size: side of the aligned pictures, pixels.
        seed: of the synthetic photographs.
        models: face models and their shares; their names must be known to ``load_model`` when the folder is read.
        workers: processes that draw; 0 draws in this one.
        config: what the photographs show.
        progress: show a bar.

    Raises:
        ArgumentError: there would be none, or they would be below 16 pixels.
        TrainingError: the folder holds portraits made with other settings.
    """
    from torch.utils.data import DataLoader

    if count < 1 or size < 16:
        raise ArgumentError(f"portraits: count must be positive and size at least 16, not {count} and {size}")
    settings = {"count": count, "size": size, "seed": seed, "models": [[m.name, share] for m, share in models]}
    num_shape, num_exp = max(m.num_shape for m, _ in models), max(m.num_exp for m, _ in models)

    def draw(rows: range) -> Iterator[dict[str, Any]]:
        drawing = _Drawing(models, size, seed, config, rows)
        context = "spawn" if workers else None
        # Several at a time are drawn quicker.
        batches = DataLoader(drawing, 8, collate_fn=list, num_workers=workers, multiprocessing_context=context)
        return chain.from_iterable(batches)

    with one_thread_each():
        layout = _layout(size, num_shape, num_exp)
        fill_columns(Path(folder), layout, settings, draw, what="portraits", progress=progress)


class _Drawing(torch.utils.data.Dataset[dict[str, Any]]):
    """The portraits of some rows, drawn when asked for."""

    def __init__(
        self,
        models: Sequence[tuple[MorphableModel, float]],
        size: int,
        seed: int,
        config: SynthConfig,
        rows: range,
    ) -> None:
        self.models, self.size, self.seed, self.config, self.rows = list(models), size, seed, config, rows
        self._faces: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, places: Sequence[int]) -> list[dict[str, Any]]:
        from garfast.synth import SyntheticFaces

        if self._faces is None:  # each process makes its own: templates are large
            self._faces = SyntheticFaces(self.models, round(_MARGIN * self.size), seed=self.seed, config=self.config)
        return [portrait(sample, self.size) for sample in self._faces.samples(self.rows[place] for place in places)]

    __getitems__ = draw  # what a DataLoader calls


def portrait(sample: dict[str, Any], size: int) -> dict[str, Any]:
    """Align one sample of ``SyntheticFaces``: its picture to the template, its camera and pose with it."""
    landmarks = torch.from_numpy(sample["landmarks68"])[None]
    alignment = align_landmarks(landmarks, size)
    photo = torch.from_numpy(np.array(sample["image"])).permute(2, 0, 1)[None].float()
    image = align_images(photo, alignment)[0].round().clamp(0, 255).to(torch.uint8)
    pose = torch.from_numpy(sample["pose"])[None]
    camera, aligned = alignment.camera(camera_from_dict(sample["camera"]), Pose(pose[:, :3], pose[:, 3:]))
    return {
        "images": image.permute(1, 2, 0).numpy(),
        "landmarks": alignment.apply(landmarks)[0].numpy(),
        "shape": sample["shape"],
        "exp": sample["exp"],
        "pose": torch.cat([aligned.rotation, aligned.translation], 1)[0].numpy(),
        "camera": camera.ndc()[0].numpy(),
        "pinhole": np.uint8(camera.projection == "pinhole"),
        "model": np.uint8(sample["model"]),
        "person": np.int32(sample["person"]),
    }


def _layout(size: int, num_shape: int, num_exp: int) -> Layout:
    return {
        "images": ((size, size, 3), np.uint8),
        "landmarks": ((68, 2), np.float32),
        "shape": ((num_shape,), np.float32),
        "exp": ((num_exp,), np.float32),
        "pose": ((6,), np.float32),
        "camera": ((4,), np.float32),
        "pinhole": ((), np.uint8),
        "model": ((), np.uint8),
        "person": ((), np.int32),
    }
