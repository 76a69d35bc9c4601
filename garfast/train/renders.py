"""A folder of rendered faces with what covers the picture, kept as flat arrays that training maps into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from garfast.errors import TrainingError
from garfast.morphable import MorphableModel
from garfast.train.columns import Layout, fill_columns, read_columns, rows_done

SIZE = 144
"""Side of a render, pixels."""
FACE_SCALE = (0.52, 0.58)
"""The longer side of the landmarks' box as a fraction of the render's side."""
_LAYOUT: Layout = {
    "images": ((SIZE, SIZE, 4), np.uint8),
    "points": ((85, 2), np.float32),
    "angles": ((3,), np.float32),
}


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
            _, columns = read_columns(self.folder, _LAYOUT)
            self.images: NDArray[np.uint8] = columns["images"]
            self.points: NDArray[np.float32] = columns["points"]
            self.angles: NDArray[np.float32] = columns["angles"]
            self.count = self.refresh()
        except (OSError, ValueError) as error:
            raise TrainingError(f"{folder} holds no rendered faces: make some with `garfast train renders`") from error

    def refresh(self) -> int:
        """Look how many are there by now."""
        self.count = rows_done(self.folder)
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
    from garfast.synth import SynthConfig, SyntheticFaces

    # Half of the camera's faults: the rest comes with the augmentation, other each time.
    config = SynthConfig(face_scale=FACE_SCALE, centre_jitter=0.02, photo_faults=0.5, normals=False)
    settings = {"count": count, "seed": seed, "models": [[model.name, share] for model, share in models]}

    def draw(rows: range) -> Iterator[dict[str, NDArray[Any]]]:
        faces = SyntheticFaces(list(models), SIZE, seed=seed, config=config)
        for sample in faces.samples(rows):
            yield {
                "images": np.concatenate([sample["image"], sample["coverage"][..., None]], -1),
                "points": np.concatenate([sample["landmarks68"], sample["landmarks68_contour"][:17]]),
                "angles": sample["angles"],
            }

    fill_columns(Path(folder), _LAYOUT, settings, draw, what="rendered faces", progress=progress)
