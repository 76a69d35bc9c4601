"""One shape for several pictures of a person."""

from __future__ import annotations

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.fit.landmark_config import LandmarkFitConfig
from garfast.fit.landmarks_fit import fit_landmarks
from garfast.fit.shared_shape import fit_landmarks_shared
from garfast.morphable import load_model
from tests.fit.landmark_faces import IMAGE_SIZE, random_faces, turned

FIXED = LandmarkFitConfig(contour="fixed")


def test_several_pictures_know_a_person_better() -> None:
    model = load_model("builtin")
    faces = random_faces(model, 5, noise=1.0, yaw=45.0, one_person=True)
    together = fit_landmarks_shared(model, faces.landmarks, [IMAGE_SIZE] * 5, config=FIXED)
    alone = fit_landmarks(model, faces.landmarks, IMAGE_SIZE, config=FIXED)
    for fit in together:
        assert bool(fit.converged)
        torch.testing.assert_close(fit.shape, together[0].shape)
        assert float(fit.nme) < 0.03
    rotations = torch.cat([fit.pose.rotation for fit in together])
    assert turned(rotations, faces.rotation).mean() < 2.5

    truth = model.landmarks(model.evaluate(faces.shape[:1]))

    def error(shape: torch.Tensor) -> torch.Tensor:
        off = model.landmarks(model.evaluate(shape)) - truth
        return (off - off.mean(1, keepdim=True)).norm(dim=-1).mean(1)

    shared, single, plain = error(together[0].shape), error(alone.shape), error(alone.shape.mean(0, keepdim=True))
    assert shared < 0.75 * single.mean()
    assert shared < 1.1 * plain


def test_one_picture_is_the_plain_fit() -> None:
    model = load_model("builtin")
    faces = random_faces(model, 1, noise=0.5, yaw=20.0, roll=5.0)
    (shared,) = fit_landmarks_shared(model, faces.landmarks, [IMAGE_SIZE], config=FIXED)
    alone = fit_landmarks(model, faces.landmarks, IMAGE_SIZE, config=FIXED)
    assert (shared.projected - alone.projected).norm(dim=-1).mean() < 0.3
    assert (shared.shape - alone.shape).abs().mean() < 0.15


@pytest.mark.parametrize("projection", ["orthographic", "pinhole"])
def test_a_known_shape_stays(projection: str) -> None:
    model = load_model("builtin")
    faces = random_faces(model, 2, noise=0.3, yaw=20.0, one_person=True)
    fits = fit_landmarks_shared(
        model, faces.landmarks, [IMAGE_SIZE, (600, 400)], projection=projection, config=FIXED, shape=faces.shape[:1]
    )
    for fit, size in zip(fits, (IMAGE_SIZE, (600, 400)), strict=True):
        torch.testing.assert_close(fit.shape, faces.shape[:1])
        assert fit.camera.image_size == size
        assert float(fit.nme) < 0.03
    again = model.landmarks(fits[0].pose.apply(model.evaluate(fits[0].shape, fits[0].exp)))
    torch.testing.assert_close(fits[0].camera.project(again), fits[0].projected, atol=0.05, rtol=1e-3)


def test_says_what_does_not_go_together() -> None:
    model = load_model("builtin")
    faces = random_faces(model, 2)
    with pytest.raises(ArgumentError, match="picture sizes"):
        fit_landmarks_shared(model, faces.landmarks, [IMAGE_SIZE])
    with pytest.raises(ArgumentError, match="projection"):
        fit_landmarks_shared(model, faces.landmarks, [IMAGE_SIZE] * 2, projection="fisheye")
    with pytest.raises(ArgumentError, match="3 coefficients"):
        fit_landmarks_shared(model, faces.landmarks, [IMAGE_SIZE] * 2, shape=torch.zeros(1, 3))
