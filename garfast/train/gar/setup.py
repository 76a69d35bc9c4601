"""Puts a renderer's training together from folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from garfast.errors import TrainingError
from garfast.morphable import MorphableModel
from garfast.networks.renderer import SHIPPED, load_network
from garfast.train.gar.presets import GarTraining
from garfast.train.gar.task import GarTask, Teachers
from garfast.train.portraits import SYNTH_WORD, Photos, open_portraits


def build_task(
    settings: GarTraining,
    models: Sequence[tuple[MorphableModel, float]],
    *,
    data: str | os.PathLike[str] | None = None,
    portraits: str | os.PathLike[str] | None = None,
    teachers: Path | None = None,
    cache: Path | None = None,
    readers: int = 1,
    device: torch.device | str = "cpu",
    impl: str = "auto",
) -> GarTask:
    """A task from what the command line names.

    Args:
        settings: of the training.
        models: face models for the random geometry and their shares.
        data: aligned photographs, a folder of pictures or of tar shards; 'synth' or None for the portraits.
        portraits: folder of portraits with known geometry, or 'synth' to draw them on the fly, which is also what
            ``data='synth'`` without a folder does.
        teachers: folder of the frozen networks' weights; the package's own where None.
        cache: folder to keep decoded photographs in; None keeps none.
        readers: threads that decode photographs.
        device: where to train.
        impl: backend of the operators.

    Raises:
        TrainingError: there are no photographs, or a loss lacks its network.
    """
    if data is not None and str(data) == SYNTH_WORD:
        data, portraits = None, portraits or SYNTH_WORD
    known = None
    if portraits is not None:
        known = open_portraits(portraits, models, settings.generator.size, settings.seed)
    photos: Photos
    if data is not None:
        from garfast.train.photos import open_photos

        photos = open_photos(data, settings.generator.size, cache=cache, threads=readers)
    elif known is not None:
        photos = known
    else:
        raise TrainingError("there are no photographs to train on: give --data or --portraits")
    frozen = load_teachers(settings, SHIPPED if teachers is None else teachers)
    return GarTask(settings, photos, models, frozen, portraits=known, device=device, impl=impl)


def load_teachers(settings: GarTraining, folder: Path) -> Teachers:
    """The frozen networks that the losses need.

    Raises:
        TrainingError: a loss with a positive weight lacks its network.
    """
    from garfast.landmarks.embedded import load_networks

    weights = settings.weights
    wanted = {
        "normals": weights.normal > 0,
        "identity": weights.identity > 0,
        "perceptual": weights.perceptual > 0 or settings.projected,
    }
    found: dict[str, Any] = {}
    for name, needed in wanted.items():
        path = folder / f"{name}.safetensors"
        if path.is_file():
            found[name] = load_network(path, name)
        elif needed:
            raise TrainingError(
                f"a loss needs {name}.safetensors, which {folder} lacks: train it first, or switch the loss off "
                f"with --set weights.{'normal' if name == 'normals' else name}=0"
            )
    return Teachers(landmarks=load_networks().marker, **found)
