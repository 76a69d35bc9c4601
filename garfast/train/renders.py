"""A folder of rendered faces with what covers the picture, kept as flat arrays that training maps into memory."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from garfast.errors import TrainingError
from garfast.io.atomic import atomic_path
from garfast.morphable import MorphableModel

SIZE = 144
"""Side of a render, pixels."""
FACE_SCALE = (0.52, 0.58)
"""The longer side of the landmarks' box as a fraction of the render's side."""


class Renders:
    """Faces that :func:`render_faces` drew, finished or still growing.

    ``images`` uint8 [N, 144, 144, 4] sRGB and coverage (255 where the person hides the background), ``points`` float32
    [N, 85, 2] pixels (68 landmarks, then the 17 of the jaw on the outline), ``angles`` float32 [N, 3] radians.

    Raises:
        TrainingError: the folder holds no renders.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.images: NDArray[np.uint8] = np.load(self.folder / "images.npy", mmap_mode="r")
            self.points: NDArray[np.float32] = np.load(self.folder / "points.npy", mmap_mode="r")
            self.angles: NDArray[np.float32] = np.load(self.folder / "angles.npy", mmap_mode="r")
            self.count = self.refresh()
        except (OSError, ValueError) as error:
            raise TrainingError(f"{folder} holds no rendered faces: make some with `garfast train renders`") from error

    def refresh(self) -> int:
        """Look how many are there by now."""
        self.count = int((self.folder / "count.txt").read_text())
        return self.count

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        """Images uint8 [B, 4, 144, 144] and points float32 [B, 85, 2] of some rows."""
        rows = np.asarray(rows)
        images = torch.from_numpy(self.images[rows]).permute(0, 3, 1, 2)
        return images, torch.from_numpy(self.points[rows])


def render_faces(
    folder: str | os.PathLike[str],
    count: int,
    seed: int,
    models: Sequence[tuple[MorphableModel, float]],
    *,
    progress: bool,
) -> None:
    """Fill a folder with renders; goes on where an earlier call stopped. Row ``k`` depends on the seed and ``k`` alone.

    Args:
        folder: where to.
        count: how many in all; about 83 kB each.
        seed: of the synthetic photographs.
        models: face models and their shares.
        progress: show a bar.

    Raises:
        TrainingError: the folder holds renders made with other settings.
    """
    from tqdm import tqdm

    from garfast.synth import SynthConfig, SyntheticFaces

    folder = Path(folder)
    # Half of the camera's faults: the rest comes with the augmentation, other each time.
    config = SynthConfig(face_scale=FACE_SCALE, centre_jitter=0.02, photo_faults=0.5, normals=False)
    settings = {"count": count, "seed": seed, "models": [[model.name, share] for model, share in models]}
    arrays = _open(folder, count, settings)
    done = int((folder / "count.txt").read_text())
    faces = SyntheticFaces(list(models), SIZE, seed=seed, config=config)
    for k in tqdm(range(done, count), initial=done, total=count, disable=not progress, unit="face"):
        sample = faces.sample(k)
        arrays["images"][k, ..., :3] = sample["image"]
        arrays["images"][k, ..., 3] = sample["coverage"]
        arrays["points"][k, :68] = sample["landmarks68"]
        arrays["points"][k, 68:] = sample["landmarks68_contour"][:17]
        arrays["angles"][k] = sample["angles"]
        if (k + 1) % 32 == 0 or k + 1 == count:
            with atomic_path(folder / "count.txt") as temporary:
                temporary.write_text(str(k + 1))


def _open(folder: Path, count: int, settings: dict[str, Any]) -> dict[str, NDArray[Any]]:
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "images": ((count, SIZE, SIZE, 4), np.uint8),
        "points": ((count, 85, 2), np.float32),
        "angles": ((count, 3), np.float32),
    }
    path = folder / "settings.json"
    if path.is_file():
        if json.loads(path.read_text()) != settings:
            raise TrainingError(f"{folder} holds faces rendered with other settings: choose an empty folder")
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in shapes}
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, NDArray[Any]] = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
        for name, (shape, dtype) in shapes.items()
    }
    (folder / "count.txt").write_text("0")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings))
    return arrays
