from __future__ import annotations

import numpy as np
import pytest

from garfast.errors import ArgumentError, LandmarkError, NoFaceError
from garfast.landmarks import IBUG_FLIP, Detection, example_landmarks, read_landmarks, select_faces
from garfast.landmarks.detection import by_size
from garfast.morphable import load_model


def _face(size: float, score: float = 1.0) -> Detection:
    box = np.array([10, 20, 10 + size, 20 + size], np.float32)
    return Detection(np.zeros((68, 2), np.float32), np.ones(68, np.float32), score, box, "test")


def test_flip_is_its_own_inverse() -> None:
    np.testing.assert_array_equal(IBUG_FLIP[IBUG_FLIP], np.arange(68))


def test_flip_agrees_with_the_face_model() -> None:
    model = load_model("builtin")
    points = model.landmarks(model.mean).numpy()
    np.testing.assert_allclose(points[IBUG_FLIP] * [-1, 1, 1], points, atol=1.0)


def test_flip_agrees_with_a_photo() -> None:
    # A nearly frontal, nearly upright face is close to its own mirror image.
    (face,) = read_landmarks(example_landmarks())
    mirrored = face.landmarks[IBUG_FLIP] * [-1, 1]
    shift = (face.landmarks - mirrored).mean(0)
    assert np.abs(face.landmarks - mirrored - shift).max() < 6


def test_selection() -> None:
    faces = by_size([_face(10), _face(30), _face(20)])
    assert [face.size for face in faces] == [900, 400, 100]
    assert select_faces(faces) == faces[:1]
    assert select_faces(faces, "all") == faces
    assert select_faces(faces, 2) == select_faces(faces, "2") == [faces[1]]
    with pytest.raises(LandmarkError, match=r"face 4 .* 3 faces"):
        select_faces(faces, 4)
    with pytest.raises(LandmarkError, match="one face"):
        select_faces(faces[:1], 2)
    for wrong in (0, -1, "first", "", "²"):
        with pytest.raises(ArgumentError, match="largest"):
            select_faces(faces, wrong)
    with pytest.raises(NoFaceError, match="no face"):
        select_faces([])
