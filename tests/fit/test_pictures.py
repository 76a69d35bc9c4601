"""Pictures show the mesh where the photograph shows the face."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from garfast.fit.pictures import LONGEST_SIDE, normals_picture, overlay_picture, picture_size, sheet_picture
from garfast.fit.pipeline import Fitter
from garfast.fit.rendering import Box, box_of_points, crop_ndc, rasterize_crop, shade, turntable_ndc
from garfast.fit.result import FitResult
from garfast.morphable import MorphableModel, PinholeCamera
from garfast.ops import rasterize_normals
from tests.tiny_face import make_scene


@pytest.fixture(scope="module")
def result(tiny_model: MorphableModel) -> FitResult:
    scene = make_scene(tiny_model, yaw=0.3)
    fitter = Fitter(landmarks=scene.landmarks, model=tiny_model, device="cpu", stages="landmarks")
    return fitter.fit(scene.photo, fitter.detect(scene.photo)[0])


def test_picture_size() -> None:
    assert picture_size(480, 640) == (480, 640)
    assert picture_size(5472, 7296) == (1536, LONGEST_SIDE)
    assert picture_size(10_000, 1) == (LONGEST_SIDE, 1)


def test_normals_as_colours() -> None:
    normals = np.array([[[0, 0, 1], [1, 0, 0], [0, -1, 0], [0, 0, 0]]], np.float32)
    picture = normals_picture(normals, np.array([[True, True, True, False]]))
    assert picture.tolist() == [[[128, 128, 255], [255, 128, 128], [128, 0, 128], [0, 0, 0]]]


@pytest.mark.parametrize("pinhole", [False, True])
def test_a_crop_shows_the_same_pixels(tiny_model: MorphableModel, pinhole: bool) -> None:
    scene = make_scene(tiny_model)
    vertices, camera = scene.vertices, scene.camera
    if pinhole:
        vertices = vertices - torch.tensor([0.0, 0.0, 900.0])
        camera = PinholeCamera(torch.tensor([[700.0, 650.0]]), torch.tensor([[96.0, 123.0]]), camera.image_size)
    whole = rasterize_crop(vertices, tiny_model, camera, Box(0, 0, 200, 240), (240, 200))
    direct = rasterize_normals(
        vertices, tiny_model.triangles, camera.ndc(), (240, 200), projection=camera.projection, cull_backfaces=False
    )
    assert (whole.triangle_ids != direct.triangle_ids).float().mean() < 1e-3
    part = rasterize_crop(vertices, tiny_model, camera, Box(40, 60, 140, 180), (120, 100))
    assert part.mask.sum() > 1000
    assert (part.triangle_ids != whole.triangle_ids[:, 60:180, 40:140]).float().mean() < 1e-3
    assert crop_ndc(camera, Box(0, 0, 200, 240)).allclose(camera.ndc(), atol=1e-6)


def test_shading_is_brighter_toward_the_light() -> None:
    directions = torch.tensor([[-0.45, 0.55, 0.70], [0.9, -0.4, 0.1], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    normals = torch.nn.functional.normalize(directions, dim=1).T.reshape(1, 3, 1, 4)
    light = shade(normals, torch.full_like(normals, 0.7)).mean(1).flatten()
    assert light[0] > light[2] > light[1]
    assert light[2] > 2 * light[3]
    assert light.min() >= 0
    assert light.max() <= 1


def test_outlines_are_not_taken_for_the_inside() -> None:
    """Smooth normals along an outline turn away from the viewer a little before the surface does."""
    directions = torch.tensor(
        [[0.9, 0.3, 0.02], [0.9, 0.3, -0.02], [0.9, 0.3, -0.2], [0.3, 0.1, -0.9], [-0.3, -0.1, 0.9]]
    )
    normals = torch.nn.functional.normalize(directions, dim=1).T.reshape(1, 3, 1, 5)
    here, past, further, inside, outside = shade(normals, torch.ones_like(normals)).mean(1).flatten().tolist()
    assert past == pytest.approx(here, rel=0.05)
    assert further == pytest.approx(here, rel=0.05)
    assert inside < 0.5 * outside


def test_turntable_views_fit_their_squares(tiny_model: MorphableModel) -> None:
    turned, camera = turntable_ndc(tiny_model.mean, (-90, 0, 90))
    ndc = turned[..., :2] * camera[:, None, :2] + camera[:, None, 2:]
    assert ndc.abs().max() <= 0.95
    assert ndc.abs().amax((0, 1))[1] > 0.93
    nose = tiny_model.landmark_triangles[30, 0]
    assert ndc[0, nose, 0] < -0.2  # turned to image left
    assert ndc[2, nose, 0] > 0.2


def test_overlay_lies_on_the_face(result: FitResult) -> None:
    overlay = overlay_picture(result)
    height, width = result.image.shape[:2]
    assert overlay.shape[0] / overlay.shape[1] == pytest.approx(height / width, rel=0.01)
    assert overlay.shape[0] >= 400  # enlarged
    from PIL import Image

    photo = np.asarray(Image.fromarray(result.image).resize(overlay.shape[1::-1], Image.Resampling.LANCZOS))
    changed = np.abs(overlay.astype(int) - photo).max(2) > 8
    rows, columns = np.nonzero(changed)
    scale = overlay.shape[1] / width
    box = box_of_points(result.camera.project(torch.from_numpy(result.vertices_camera)[None])[0])
    assert columns.min() == pytest.approx(box.x0 * scale, abs=6)
    assert columns.max() == pytest.approx(box.x1 * scale, abs=6)
    assert rows.max() == pytest.approx(box.y1 * scale, abs=6)


def test_sheet_is_complete(result: FitResult) -> None:
    sheet = sheet_picture(result)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > sheet.shape[0] > 1000
    # Every tile has something in it.
    for row in range(3):
        for column in range(5):
            y, x = 128 + row * (360 + 30 + 18), 36 + column * (360 + 18)
            assert np.ptp(sheet[y : y + 360, x : x + 360].reshape(-1, 3), axis=0).max() > 80, (row, column)


def test_a_missing_landmark_and_a_face_outside_the_photograph(result: FitResult) -> None:
    import dataclasses

    landmarks = result.landmarks.copy()
    landmarks[3] = np.nan
    overlay_picture(dataclasses.replace(result, detection=result.detection._replace(landmarks=landmarks)))
    camera = dataclasses.replace(result.camera, offset=result.camera.offset + 5000)
    away = dataclasses.replace(result, camera=camera, landmarks_fitted=result.landmarks_fitted + 5000)
    assert overlay_picture(away).shape[2] == 3
    assert sheet_picture(away).shape[2] == 3
