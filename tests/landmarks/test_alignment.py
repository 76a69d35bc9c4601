"""Alignment: the template is reached, cameras follow the pictures, and pictures keep their mean."""

from __future__ import annotations

import math

import pytest
import torch

from garfast.errors import LandmarkError
from garfast.landmarks.alignment import TEMPLATE, Alignment, align_images, align_landmarks
from garfast.landmarks.detection import IBUG_FLIP
from garfast.morphable import OrthographicCamera, PinholeCamera, Pose, load_model


def turned(points: torch.Tensor, scale: float, degrees: float, shift: tuple[float, float]) -> torch.Tensor:
    angle = math.radians(degrees)
    rotation = points.new_tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return scale * points @ rotation.T + points.new_tensor(shift)


def test_template_is_symmetric_and_inside() -> None:
    template = torch.tensor(TEMPLATE)
    mirrored = template[torch.tensor(IBUG_FLIP)] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    torch.testing.assert_close(mirrored, template, atol=2e-4, rtol=0)
    assert template.min() > 0.15
    assert template.max() < 0.85


def test_undoes_any_similarity_and_ignores_missing_landmarks() -> None:
    template = torch.tensor(TEMPLATE, dtype=torch.float64) * 96
    photo = torch.stack([turned(template, 3.7, 25, (400, -30)), turned(template, 0.4, -80, (5, 9))])
    photo[0, 3] = torch.nan
    alignment = align_landmarks(photo, 96)
    there = ~photo.isnan()
    torch.testing.assert_close(alignment.apply(photo)[there], template.expand(2, -1, -1)[there])
    torch.testing.assert_close(alignment.undo(alignment.apply(photo))[there], photo[there])
    torch.testing.assert_close(alignment.scale, torch.tensor([1 / 3.7, 1 / 0.4], dtype=torch.float64))


@pytest.mark.parametrize("bad", [torch.zeros(68, 2), torch.zeros(1, 68, 2), torch.full((1, 68, 2), torch.nan)])
def test_bad_landmarks(bad: torch.Tensor) -> None:
    with pytest.raises(LandmarkError):
        align_landmarks(bad, 64)


@pytest.mark.parametrize("projection", ["orthographic", "pinhole"])
def test_cameras_follow(projection: str) -> None:
    model = load_model("builtin")
    points = model.landmarks(model.evaluate()).double()
    angles = torch.tensor([0.4, -0.2, 0.7], dtype=torch.float64)
    pose = Pose.from_euler(*(a[None] for a in angles), translation=points.new_tensor([[10.0, 5.0, -900.0]]))
    if projection == "pinhole":
        camera = PinholeCamera(points.new_tensor([[800.0, 800.0]]), points.new_tensor([[250.0, 180.0]]), (360, 500))
    else:
        camera = OrthographicCamera(points.new_tensor([1.3]), points.new_tensor([[240.0, 150.0]]), (360, 500))
    photo = camera.project(pose.apply(points))
    alignment = align_landmarks(photo, 128)
    aligned_camera, aligned_pose = alignment.camera(camera, pose)
    assert aligned_camera.image_size == (128, 128)
    torch.testing.assert_close(aligned_camera.project(aligned_pose.apply(points)), alignment.apply(photo))
    # The template's own roll is zero, and so is that of an aligned head but for its other angles.
    assert abs(float(aligned_pose.euler()[2])) < 0.25


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_pictures_land_where_points_do(scale: float) -> None:
    side = 240
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    # Linear ramps: the picture's value is its own coordinate.
    photo = torch.stack([x, y])[None].double()
    template = torch.tensor(TEMPLATE, dtype=torch.float64)
    marks = turned(template - 0.5, 40 / scale if scale > 1 else 120.0, 17, (118.0, 122.0))[None]
    alignment = align_landmarks(marks, 64)
    picture = align_images(photo, alignment)
    centres = torch.arange(64, dtype=torch.float64) + 0.5
    grid_y, grid_x = torch.meshgrid(centres, centres, indexing="ij")
    wanted = alignment.undo(torch.stack([grid_x, grid_y], -1).view(1, -1, 2)).view(64, 64, 2).permute(2, 0, 1)
    torch.testing.assert_close(picture[0], wanted, atol=0.6, rtol=0)


def test_shrinking_does_not_alias() -> None:
    noise = torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    alignment = Alignment(torch.tensor([[[1 / 16, 0.0, 0.0], [0.0, 1 / 16, 0.0]]]), 32)
    assert float(align_images(noise, alignment).std()) < 0.1
