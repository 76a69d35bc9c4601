"""A real photograph: the astronaut that scikit-image ships, with landmarks placed by hand."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

import garfast
from garfast.fit.pipeline import default_stages
from garfast.fit.rendering import Box, rasterize_crop, textured
from garfast.landmarks import example_landmarks
from garfast.morphable import MorphableModel, load_model


def ict(path: Path) -> MorphableModel:
    from garfast.morphable.importers.ict import import_ict

    return import_ict(path)


@pytest.mark.parametrize("name", ["builtin", "ict"])
def test_astronaut(name: str, request: pytest.FixtureRequest) -> None:
    load: dict[str, Callable[[], MorphableModel]] = {
        "builtin": lambda: load_model("builtin"),
        "ict": lambda: ict(request.getfixturevalue("ict_path")),
    }
    result = garfast.fit(
        Path(str(files("skimage") / "data" / "astronaut.png")),
        landmarks=example_landmarks(),
        model=load[name](),
        device="cpu",
        stages=default_stages(texture_size=512),
    )
    assert result.converged
    assert result.nme < 0.025
    assert max(abs(angle) for angle in result.angles) < 12
    # The mesh covers the face in the photograph, and nothing far from it.
    inner = result.landmarks[17:].round().astype(int)
    inner_box = (slice(inner[:, 1].min(), inner[:, 1].max()), slice(inner[:, 0].min(), inner[:, 0].max()))
    assert result.mask[inner_box].mean() > 0.85  # a model may leave the mouth open
    rows, columns = np.nonzero(result.mask)
    assert 130 < columns.min() < columns.max() < 320
    assert rows.max() < 280
    # A life-sized head whose nose points out of the face.
    width, height, _ = np.ptp(result.vertices, axis=0)
    assert 110 < width < 220
    assert 150 < height < 340
    # The textured mesh, seen by the camera, looks like the photograph.
    photo_box = Box(0, 0, 512, 512)
    output = rasterize_crop(
        torch.from_numpy(result.vertices_camera)[None], result.model, result.camera, photo_box, (512, 512)
    )
    texture = torch.from_numpy(result.texture).permute(2, 0, 1) / 255
    seen = textured(output, torch.from_numpy(result.uv), torch.from_numpy(result.uv_triangles), texture)
    difference = np.abs(255 * seen[0].permute(1, 2, 0).numpy() - result.image).mean(2)
    assert difference[inner_box][result.mask[inner_box]].mean() < 12
