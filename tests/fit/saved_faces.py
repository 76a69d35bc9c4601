"""Fits of the tiny face in folders, for the tests of rendering and editing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import garfast
from garfast.fit.output import save_result
from garfast.fit.pipeline import default_stages
from garfast.fit.result import FitResult
from garfast.io.images import write_image
from garfast.morphable import MorphableModel
from garfast.networks.renderer import Renderer
from tests.tiny_face import make_scene


def save_fit(
    folder: Path, model: MorphableModel, *, yaw: float = 0.1, size: int = 32, renderer: Renderer | None = None
) -> FitResult:
    """Fit a photograph of the tiny face, ``FOLDER.png``, and write it to a folder, with blank sheet and overlay.

    With a renderer, up to the inversion.
    """
    scene = make_scene(model, yaw=yaw)
    photo = folder.with_suffix(".png")
    write_image(photo, scene.photo)
    stages = default_stages(texture_size=size, renderer=renderer)
    result = garfast.fit(photo, landmarks=scene.landmarks, model=model, device="cpu", stages=stages)
    with pytest.MonkeyPatch.context() as patch:
        for picture in ("sheet_picture", "overlay_picture"):
            patch.setattr(f"garfast.fit.output.{picture}", lambda result: np.zeros((4, 4, 3), np.uint8))
        save_result(result, folder)
    return result
