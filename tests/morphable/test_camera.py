"""Cameras: projection, NDC, calibration and matrices agree with one another."""

from __future__ import annotations

import json
import math

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.morphable import OrthographicCamera, PinholeCamera, Pose, camera_from_dict

HEIGHT, WIDTH = 240, 320


def _pose() -> Pose:
    return Pose(
        torch.tensor([[0.1, -0.4, 0.05], [0.0, 0.3, 0.2]]), torch.tensor([[5.0, -3.0, -600.0], [0.0, 9.0, -500.0]])
    )


def _orthographic() -> OrthographicCamera:
    return OrthographicCamera(torch.tensor([1.5, 0.7]), torch.tensor([[100.0, 90.0], [160.5, 120.0]]), (HEIGHT, WIDTH))


def _pinhole() -> PinholeCamera:
    return PinholeCamera(
        torch.tensor([[800.0, 790.0], [500.0, 500.0]]), torch.tensor([[161.0, 118.0], [160.0, 120.0]]), (HEIGHT, WIDTH)
    )


def _points() -> torch.Tensor:
    return torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0)) * 40


def test_pose_is_rotation_then_translation() -> None:
    pose, points = _pose(), _points()
    expected = torch.einsum("bij,bnj->bni", pose.matrix(), points) + pose.translation[:, None]
    torch.testing.assert_close(pose.apply(points), expected)
    homogeneous = torch.cat([points, torch.ones(2, 7, 1)], -1)
    torch.testing.assert_close((homogeneous @ pose.matrix4().mT)[..., :3], expected)
    assert Pose.identity(2).apply(points).equal(points)


def test_pose_from_head_angles_and_back() -> None:
    yaw, pitch, roll = torch.tensor([0.5]), torch.tensor([-0.2]), torch.tensor([0.1])
    pose = Pose.from_euler(yaw, pitch, roll)
    torch.testing.assert_close(torch.stack(pose.euler()), torch.stack([yaw, pitch, roll]))


def test_image_axes() -> None:
    """A point to the right and up lies right of and above the centre, in photo pixels."""
    point = torch.tensor([[[10.0, 20.0, -100.0]]])
    u, v = OrthographicCamera(torch.tensor([2.0]), torch.tensor([[50.0, 60.0]]), (100, 100)).project(point)[0, 0]
    assert (u.item(), v.item()) == (70.0, 20.0)
    u, v = PinholeCamera(torch.tensor([[200.0, 200.0]]), torch.tensor([[50.0, 60.0]]), (100, 100)).project(point)[0, 0]
    assert (u.item(), v.item()) == (70.0, 20.0)


@pytest.mark.parametrize("kind", ["orthographic", "pinhole"])
def test_ndc_is_the_same_projection(kind: str) -> None:
    camera = _orthographic() if kind == "orthographic" else _pinhole()
    points = _pose().apply(_points())
    a = camera.ndc()[:, None]
    xy = points[..., :2] if kind == "orthographic" else points[..., :2] / -points[..., 2:]
    ndc = xy * a[..., :2] + a[..., 2:]
    pixels = torch.stack([(ndc[..., 0] + 1) / 2 * WIDTH, (1 - ndc[..., 1]) / 2 * HEIGHT], -1)
    torch.testing.assert_close(pixels, camera.project(points), atol=1e-3, rtol=1e-5)


def test_opencv_pinhole_matrices_reproduce_the_projection() -> None:
    camera, pose, points = _pinhole(), _pose(), _points()
    homogeneous = torch.cat([points, torch.ones(2, 7, 1)], -1)
    seen = (homogeneous @ camera.opencv_matrix(pose).mT)[..., :3]
    assert (seen[..., 2] > 0).all()  # z forward
    image = seen @ camera.intrinsics().mT
    torch.testing.assert_close(
        image[..., :2] / image[..., 2:], camera.project(pose.apply(points)), atol=1e-3, rtol=1e-5
    )


def test_opencv_orthographic_matrices_reproduce_the_projection() -> None:
    camera, pose, points = _orthographic(), _pose(), _points()
    homogeneous = torch.cat([points, torch.ones(2, 7, 1)], -1)
    seen = (homogeneous @ camera.opencv_matrix(pose).mT)[..., :2]
    image = torch.cat([seen, torch.ones(2, 7, 1)], -1) @ camera.intrinsics().mT
    torch.testing.assert_close(image[..., :2], camera.project(pose.apply(points)), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(
        camera.opengl_matrix(pose), camera.opencv_matrix(pose) * torch.tensor([1.0, -1, -1, 1])[:, None]
    )


@pytest.mark.parametrize("kind", ["orthographic", "pinhole"])
def test_json_round_trip(kind: str) -> None:
    camera = _orthographic() if kind == "orthographic" else _pinhole()
    back = camera_from_dict(json.loads(json.dumps(camera.to_dict())))
    assert type(back) is type(camera)
    assert back.image_size == (HEIGHT, WIDTH)
    torch.testing.assert_close(back.ndc(), camera.ndc())
    pose = Pose.from_dict(json.loads(json.dumps(_pose().to_dict())))
    torch.testing.assert_close(pose.matrix4(), _pose().matrix4())


def test_gradients_reach_pose_and_camera() -> None:
    rotation = torch.zeros(2, 3, requires_grad=True)
    scale = torch.ones(2, requires_grad=True)
    camera = OrthographicCamera(scale, torch.zeros(2, 2), (10, 10))
    camera.project(Pose(rotation, torch.zeros(2, 3)).apply(_points())).square().sum().backward()
    assert rotation.grad is not None
    assert rotation.grad.isfinite().all()
    assert scale.grad is not None
    assert (scale.grad != 0).all()


def test_dtype_moves() -> None:
    assert _pinhole().to(dtype=torch.float64).ndc().dtype == torch.float64
    assert _orthographic().to(dtype=torch.float64).ndc().dtype == torch.float64
    assert _pose().to(dtype=torch.float64).matrix4().dtype == torch.float64


def test_mistakes_are_named() -> None:
    with pytest.raises(ArgumentError, match="rotation must have shape"):
        Pose(torch.zeros(3), torch.zeros(1, 3))
    with pytest.raises(ArgumentError, match="same batch size"):
        Pose(torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(ArgumentError, match="at least one pixel"):
        OrthographicCamera(torch.ones(1), torch.zeros(1, 2), (0, 5))
    with pytest.raises(ArgumentError, match="'orthographic' or 'pinhole'"):
        camera_from_dict({"projection": "fisheye"})
    with pytest.raises(ArgumentError, match="'scale' is missing"):
        camera_from_dict({"projection": "orthographic", "image_size": [2, 2], "offset": [[0, 0]]})
    with pytest.raises(ArgumentError, match="image_size"):
        camera_from_dict({"projection": "orthographic", "scale": [1.0], "offset": [[0, 0]]})
    size = {"image_size": [2, 2]}
    with pytest.raises(ArgumentError, match="'scale' must hold positive numbers"):
        camera_from_dict({"projection": "orthographic", "scale": [0.0], "offset": [[0, 0]], **size})
    with pytest.raises(ArgumentError, match="'focal' must hold positive numbers"):
        camera_from_dict({"projection": "pinhole", "focal": [[9.0, -9.0]], "centre": [[1, 1]], **size})
    with pytest.raises(ArgumentError, match="'offset' must hold finite numbers"):
        camera_from_dict({"projection": "orthographic", "scale": [1.0], "offset": [[0, math.nan]], **size})
