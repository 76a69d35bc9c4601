"""Looks for what the face finder takes for a face and is none, so that the next training sees it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from garfast.landmarks.embedded import propose
from garfast.networks.face_finder import FaceFinder, FaceFinderConfig
from garfast.networks.weights import fill_network, load_weights
from garfast.train.scenery import pictures, scene

_LEAST = 0.08  # the finder's score from which a place is worth learning from
_PER_PICTURE = 12


@torch.no_grad()
def mine(
    finder: FaceFinder, seed: int, count: int, size: int, *, ratio: tuple[float, float], source: int = 384
) -> Tensor:
    """Windows around false alarms, hardest first in each picture.

    Args:
        finder: the network to fool.
        seed: of the pictures that it is shown: parts of scikit-image's, whole ones, and made-up ones; nobody in them.
        count: how many windows.
        size: their side, pixels.
        ratio: smallest and largest side of a window over the side of the face that the finder saw in it.
        source: side of the pictures shown, pixels.

    Returns:
        uint8 [count, 3, size, size].
    """
    rng = np.random.default_rng([seed, 72])
    whole = pictures()
    found: list[Tensor] = []
    for _ in range(4 * count):
        if len(found) >= count:
            break
        if whole and rng.random() < 0.35:
            array = whole[rng.integers(len(whole))]
            if rng.random() < 0.5:
                array = array[:, ::-1]
        else:
            array = scene(rng, source, photographs=0.8)
        photo = torch.from_numpy(np.array(array)).permute(2, 0, 1)
        places, _ = propose(finder, photo, _LEAST)
        for x, y, side, _ in places[:_PER_PICTURE].tolist():
            window = side * float(np.exp(rng.uniform(*np.log(ratio))))
            found.append(_window(photo, x, y, window, size))
    while len(found) < count:  # a finder that nothing fools
        array = scene(rng, size, photographs=0.8)
        found.append(torch.from_numpy(array.copy()).permute(2, 0, 1))
    return torch.stack(found[:count])


def load_finder(path: str | os.PathLike[str]) -> FaceFinder:
    """A face finder to be fooled.

    Raises:
        WeightsFileError: the file is missing, damaged or of another network.
    """
    config, state = load_weights(path, kind="faces")
    finder = FaceFinder(FaceFinderConfig.from_dict(config))
    fill_network(finder, state, Path(path))
    return finder.requires_grad_(False)


def _window(photo: Tensor, x: float, y: float, side: float, size: int) -> Tensor:
    """A square of a photo uint8 [3, H, W], the border going on outside, as uint8 [3, size, size]."""
    height, width = photo.shape[1:]
    half = max(2, round(side / 2))
    columns = (torch.arange(-half, half) + int(x)).clamp(0, width - 1)
    rows = (torch.arange(-half, half) + int(y)).clamp(0, height - 1)
    part = photo[:, rows][:, :, columns][None].float()
    part = functional.interpolate(part, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return part[0].round().clamp(0, 255).to(torch.uint8)
