"""Equation 12 on faces whose pose and coefficients are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from garfast.errors import ArgumentError, LandmarkError
from garfast.fit.landmark_geometry import LandmarkGeometry, with_contour
from garfast.fit.landmarks_fit import LandmarkFitConfig, fit_landmarks
from garfast.landmarks import example_landmarks, read_landmarks
from garfast.morphable import MorphableModel, euler_to_matrix, load_model
from garfast.morphable.importers.ict import import_ict
from tests.fit.landmark_faces import IMAGE_SIZE, pinhole, pose_deviation, random_faces, turned

FIXED = LandmarkFitConfig(contour="fixed")


@pytest.fixture(scope="module", params=["builtin", "ict"])
def model(request: pytest.FixtureRequest) -> MorphableModel:
    if request.param == "ict":
        path: Path = request.getfixturevalue("ict_path")
        return import_ict(path, part="face")
    return load_model("builtin")


@pytest.mark.parametrize("contour", ["fixed", "sliding"])
def test_recovers_random_faces(model: MorphableModel, contour: str) -> None:
    # Half of the faces with each kind of contour landmarks; the larger model takes three times as long a face.
    faces = random_faces(model, 100 if model.name == "builtin" else 40, contour=contour)
    fit = fit_landmarks(model, faces.landmarks, IMAGE_SIZE, config=LandmarkFitConfig(contour=contour))
    assert bool(fit.converged.all())
    assert bool((fit.residuals.mean(1) < 1.0).all())
    error = turned(fit.pose.rotation, faces.rotation)
    assert float(error.mean()) < 1.0
    assert float(error.quantile(0.95)) < 2.0
    # On average little more than what the noise leaves undetermined.
    bound = pose_deviation(model, faces, contour=contour)
    assert float(error.square().mean().sqrt()) < 1.25 * float(bound.square().mean().sqrt())
    # The larger model has shapes that imitate a turn of the head, which 68 noisy landmarks do not always tell apart.
    assert float(error.max()) < (2.0 if model.name == "builtin" else 3.0)


@pytest.fixture(scope="module")
def fits(model: MorphableModel) -> tuple[Any, Any]:
    faces = random_faces(model, 8, seed=1)
    return faces, fit_landmarks(model, faces.landmarks, IMAGE_SIZE, config=FIXED)


def test_outputs_agree_with_each_other(model: MorphableModel, fits: tuple[Any, Any]) -> None:
    faces, fit = fits
    vertices = model.evaluate(fit.shape, fit.exp)
    pixels = fit.camera.project(model.landmarks(fit.pose.apply(vertices)))
    torch.testing.assert_close(pixels, fit.projected, atol=0.02, rtol=0)
    torch.testing.assert_close((pixels - faces.landmarks).norm(dim=-1).float(), fit.residuals, atol=0.03, rtol=0)
    extent = faces.landmarks.amax(1) - faces.landmarks.amin(1)
    torch.testing.assert_close(fit.nme, (fit.residuals.double().mean(1) / extent.prod(1).sqrt()).float())
    lower, upper = model.exp_bounds.T
    assert bool(((fit.exp >= lower) & (fit.exp <= upper)).all())
    assert fit.shape.dtype == model.mean.dtype
    assert bool((fit.pose.translation == 0).all())


def test_a_batch_equals_its_faces(model: MorphableModel, fits: tuple[Any, Any]) -> None:
    faces, fit = fits
    for face in (0, 5):
        alone = fit_landmarks(model, faces.landmarks[face], IMAGE_SIZE, config=FIXED)
        torch.testing.assert_close(alone.projected[0], fit.projected[face], atol=1e-2, rtol=0)
        torch.testing.assert_close(alone.shape[0], fit.shape[face], atol=1e-3, rtol=0)


def test_photo_scale_and_place_do_not_matter(model: MorphableModel, fits: tuple[Any, Any]) -> None:
    faces, fit = fits
    moved = fit_landmarks(model, faces.landmarks * 7 + 300, (4000, 6000), config=FIXED)
    torch.testing.assert_close(moved.shape, fit.shape, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved.exp, fit.exp, atol=1e-4, rtol=0)
    torch.testing.assert_close(moved.nme, fit.nme, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(moved.residuals, fit.residuals * 7, atol=1e-2, rtol=1e-3)


def test_wrong_landmarks_are_found_and_ignored(model: MorphableModel) -> None:
    faces = random_faces(model, 8, seed=2)
    wrong = [2, 19, 33, 45, 54]
    shift = 60 * torch.nn.functional.normalize(torch.randn(8, 5, 2, generator=torch.Generator().manual_seed(0)), dim=2)
    landmarks = faces.landmarks.clone()
    landmarks[:, wrong] += shift
    fit = fit_landmarks(model, landmarks, IMAGE_SIZE, config=FIXED)
    assert bool(fit.converged.all())
    assert float(fit.weights[:, wrong].max()) < 0.02
    right = [i for i in range(68) if i not in wrong]
    assert float(fit.residuals[:, right].mean()) < 1.0
    assert float(turned(fit.pose.rotation, faces.rotation).mean()) < 1.5


def test_missing_landmarks(model: MorphableModel, fits: tuple[Any, Any]) -> None:
    faces, _ = fits
    landmarks, weights = faces.landmarks.clone(), torch.ones(8, 68)
    landmarks[:, 40:44] = torch.nan
    weights[:, 50] = 0
    landmarks[:, 50] = 1e6
    fit = fit_landmarks(model, landmarks, IMAGE_SIZE, weights=weights, config=FIXED)
    assert bool(fit.converged.all())
    assert bool(fit.residuals[:, 40:44].isnan().all())
    assert bool(fit.nme.isfinite().all())
    assert float(fit.nme.max()) < 0.01
    assert float(turned(fit.pose.rotation, faces.rotation).mean()) < 1.5


def test_any_head_orientation(model: MorphableModel) -> None:
    faces = random_faces(model, 24, seed=4, yaw=85.0, roll=180.0)
    fit = fit_landmarks(model, faces.landmarks, IMAGE_SIZE, config=FIXED)
    assert bool(fit.converged.all())
    assert float(turned(fit.pose.rotation, faces.rotation).max()) < 4.0


def test_swapped_sides_are_not_a_face(model: MorphableModel) -> None:
    faces = random_faces(model, 4, yaw=20.0)
    mirrored = faces.landmarks * torch.tensor([-1.0, 1.0]) + torch.tensor([512.0, 0.0])
    assert not bool(fit_landmarks(model, mirrored, IMAGE_SIZE, config=FIXED).converged.any())


def test_scattered_points_are_not_a_face(model: MorphableModel) -> None:
    points = 512 * torch.rand(3, 68, 2, generator=torch.Generator().manual_seed(0))
    assert not bool(fit_landmarks(model, points, IMAGE_SIZE).converged.any())


def test_known_focal_length_gives_the_distance(model: MorphableModel) -> None:
    faces = random_faces(model, 8, project=pinhole(700.0, 400.0))
    config = LandmarkFitConfig(contour="fixed", focal=700.0)
    fit = fit_landmarks(model, faces.landmarks, IMAGE_SIZE, projection="pinhole", config=config)
    assert bool(fit.converged.all())
    torch.testing.assert_close(fit.camera.focal, torch.full((8, 2), 700.0))
    assert float((fit.pose.translation[:, 2] / -400 - 1).abs().max()) < 0.15
    assert float(turned(fit.pose.rotation, faces.rotation).max()) < 3.5
    pixels = fit.camera.project(model.landmarks(fit.pose.apply(model.evaluate(fit.shape, fit.exp))))
    torch.testing.assert_close(pixels, fit.projected, atol=0.05, rtol=0)


def test_focal_length_is_estimated_around_its_prior(model: MorphableModel) -> None:
    faces = random_faces(model, 8, project=pinhole(800.0, 400.0))
    fit = fit_landmarks(model, faces.landmarks, IMAGE_SIZE, projection="pinhole", config=FIXED)
    estimate = fit.camera.focal[:, 0].log()
    assert float(estimate.mean()) == pytest.approx(math.log(800.0), abs=0.2)
    assert float(estimate.mean()) > math.log(1.2 * 512)
    still = LandmarkFitConfig(contour="fixed", focal_spread=0.0)
    kept = fit_landmarks(model, faces.landmarks, IMAGE_SIZE, projection="pinhole", config=still)
    torch.testing.assert_close(kept.camera.focal, torch.full((8, 2), 1.2 * 512))


def test_contour_slides_on_the_far_side_only(model: MorphableModel) -> None:
    geometry = LandmarkGeometry.from_model(model)
    yaw = torch.tensor([40.0, -40.0], dtype=torch.float64).deg2rad()
    rotation = euler_to_matrix(yaw, torch.zeros_like(yaw), torch.zeros_like(yaw))
    zero = torch.zeros(2, geometry.num_coefficients, dtype=torch.float64)
    contour = geometry.choose_contour(zero, rotation, 0.1)
    own = geometry.contour_vertices(geometry.own_contour(2))
    moved = geometry.contour_vertices(contour) != own
    # Turned to image right, the subject's left (landmarks 9-16) is the far side.
    assert not bool(moved[0, :6].any())
    assert bool(moved[0, 13:16].all())
    assert not bool(moved[1, 11:].any())
    assert bool(moved[1, 1:4].all())
    # The chosen points reach at least as far out as the landmark's own.
    points, _ = geometry.select(contour)
    fixed, _ = geometry.select(geometry.own_contour(2))
    out = geometry.contour_normals(rotation)
    reach = (((points - fixed) @ rotation.mT)[:, :17, :2] * out).sum(-1)
    assert float(reach.min()) > -0.5
    assert float(reach[0, 12:16].min()) > 0.5


def test_sliding_reaches_the_outline_of_the_whole_mesh(model: MorphableModel) -> None:
    geometry = LandmarkGeometry.from_model(model)
    yaw = torch.tensor([35.0], dtype=torch.float64).deg2rad()
    rotation = euler_to_matrix(yaw, torch.zeros_like(yaw), torch.zeros_like(yaw))
    contour = geometry.choose_contour(torch.zeros(1, geometry.num_coefficients).double(), rotation, 0.1)
    points, _ = geometry.select(contour)
    seen = (points @ rotation.mT)[0, 11:15, :2]
    vertices = model.mean.double() @ rotation[0].T
    front = (model.mean[:, 2] > model.mean[:, 2].median()) & (model.mean[:, 0] > 0)
    for point in seen:
        level = front & ((vertices[:, 1] - point[1]).abs() < 3)
        assert float(vertices[level, 0].max() - point[0]) < 4.0


def test_no_faces(model: MorphableModel) -> None:
    fit = fit_landmarks(model, torch.zeros(0, 68, 2), IMAGE_SIZE)
    assert fit.shape.shape == (0, model.num_shape)
    assert fit.converged.shape == (0,)


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (torch.zeros(1, 67, 2), "68"),
        (torch.zeros(1, 68, 2), "line or in one place"),
        (torch.full((1, 68, 2), torch.inf), "infinite"),
        (torch.full((1, 68, 2), torch.nan), "fewer than"),
        (torch.stack([torch.arange(68.0), 2 * torch.arange(68.0)], 1) * torch.tensor([1.0, 0.01]), "line"),
    ],
)
def test_unusable_landmarks(model: MorphableModel, landmarks: torch.Tensor, message: str) -> None:
    with pytest.raises(LandmarkError, match=message):
        fit_landmarks(model, landmarks, IMAGE_SIZE)


def test_wrong_arguments(model: MorphableModel) -> None:
    points = torch.rand(2, 68, 2) * 100
    with pytest.raises(ArgumentError, match="projection"):
        fit_landmarks(model, points, IMAGE_SIZE, projection="fisheye")
    with pytest.raises(ArgumentError, match="weights"):
        fit_landmarks(model, points, IMAGE_SIZE, weights=torch.ones(3, 68))
    with pytest.raises(ArgumentError, match="weights"):
        fit_landmarks(model, points, IMAGE_SIZE, weights=-torch.ones(68))
    for wrong in (
        {"contour": "round"},
        {"noise_min": 0.0},
        {"starts": 0},
        {"starts": 25},
        {"focal": -1.0},
        {"robust_cutoff": 0.0},
    ):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            LandmarkFitConfig(**wrong)


def test_a_real_photo(model: MorphableModel) -> None:
    (face,) = read_landmarks(example_landmarks())
    fit = fit_landmarks(model, torch.from_numpy(face.landmarks), IMAGE_SIZE)
    assert bool(fit.converged[0])
    assert float(fit.nme[0]) < 0.02
    # The astronaut looks into the camera and smiles.
    yaw, pitch, roll = (float(angle.rad2deg()) for angle in fit.pose.euler())
    assert abs(yaw) < 8
    assert abs(pitch) < 12
    assert abs(roll) < 6
    smile = [i for i, name in enumerate(model.exp_names) if "smile" in name.lower()]
    assert float(fit.exp[0, smile].mean()) > 0.5
    assert float(fit.shape.abs().max()) < 4


@pytest.mark.gpu
def test_the_device_does_not_matter(model: MorphableModel) -> None:
    faces = random_faces(model, 4)
    here = fit_landmarks(model, faces.landmarks, IMAGE_SIZE)
    there = fit_landmarks(model.to("cuda"), faces.landmarks, IMAGE_SIZE)
    assert there.shape.device.type == "cuda"
    torch.testing.assert_close(there.projected.cpu(), here.projected, atol=0.05, rtol=0)
    torch.testing.assert_close(there.contour_vertices.cpu(), here.contour_vertices)


def test_jaw_landmarks_between_vertices_stay_there(tiny_model):
    """What later stages take for the jaw's landmarks is what the fit has moved."""
    model = replace(
        tiny_model,
        landmark_triangles=tiny_model.triangles[:68].long().clone(),
        landmark_weights=torch.full((68, 3), 1 / 3),
    )
    geometry = LandmarkGeometry.from_model(model)
    vertices = geometry.contour_vertices(geometry.own_contour(2))
    assert (vertices == -1).all()
    points, mesh = torch.randn(2, 68, 3), torch.randn(2, 9, 3)
    torch.testing.assert_close(with_contour(points, mesh, vertices), points)
    vertices[1, 3] = 5
    assert torch.equal(with_contour(points, mesh, vertices)[1, 3], mesh[1, 5])
