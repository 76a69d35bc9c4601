"""Pictures of a face from its parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from garfast.errors import ArgumentError
from garfast.fit.changes import parse_setting
from garfast.fit.render import neutral_face, render_mesh
from garfast.morphable import MorphableModel


def test_modes_sizes_and_views(tiny_model: MorphableModel) -> None:
    face = neutral_face(tiny_model, 200)
    shaded = render_mesh(face, "shaded", (60, 60))
    assert shaded.shape == (60, 60, 3)
    assert shaded.dtype == np.uint8
    assert (shaded[0, 0] == (232, 232, 229)).all()
    assert (shaded[30, 30] != shaded[0, 0]).any()
    normals = render_mesh(face, "normals", (48, 64), view="photo")
    assert normals.shape == (48, 64, 3)
    assert (normals[0, 0] == 0).all()
    assert normals[24, 32, 2] > 200  # looks into the camera
    texture = torch.zeros(3, 16, 16)
    texture[0] = 1
    red = render_mesh(face, "textured", (60, 60), texture=texture)[30, 30]
    assert red[0] > 150
    assert red[1] < 20


def test_the_mean_face_fits_into_its_picture(tiny_model: MorphableModel) -> None:
    face = neutral_face(tiny_model, 100)
    pixels = face.camera.project(face.vertices)[0]
    assert pixels.min() > 1
    assert pixels.max() < 99


def test_turning_turns_the_normals(tiny_model: MorphableModel) -> None:
    face = neutral_face(tiny_model, 64).changed([parse_setting("yaw", "40")])
    normals = render_mesh(face, "normals", (64, 64))
    covered = normals.any(-1)
    assert normals[covered][:, 0].mean() > 140  # x to the right


def test_says_what_is_wrong(tiny_model: MorphableModel) -> None:
    face = neutral_face(tiny_model)
    for words, arguments in {
        "no texture": {"mode": "textured", "size": (8, 8)},
        "1 to 8192": {"mode": "shaded", "size": (0, 8)},
        "not 'wire'": {"mode": "wire", "size": (8, 8)},
        "a view is": {"mode": "shaded", "size": (8, 8), "view": "back"},
    }.items():
        with pytest.raises(ArgumentError, match=words):
            render_mesh(face, **arguments)  # type: ignore[arg-type]
