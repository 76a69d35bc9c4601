"""A face model of a few hundred vertices and photographs of it, for tests that need no likeness."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from garfast.morphable import MorphableModel, OrthographicCamera, Pose

ROWS, COLUMNS = 21, 25


def landmark_places() -> np.ndarray:
    """68 landmarks of a schematic face as (x, y) in mm, symmetric, iBUG order."""

    def arc(x: float, y: float, width: float, height: float, start: float, stop: float, count: int) -> np.ndarray:
        angle = np.deg2rad(np.linspace(start, stop, count))
        return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], 1)

    jaw = arc(0, 10, 62, 82, 180, 360, 17)
    brows = [arc(side * 30, 28, 20, 8, 170, 10, 5) for side in (-1, 1)]
    nose = np.concatenate([np.stack([np.zeros(4), np.linspace(18, -12, 4)], 1), arc(0, -18, 14, 6, 180, 360, 5)])

    def eye(side: int) -> np.ndarray:
        corners = arc(side * 30, 18, 13, 6, 180, -180, 7)[:6]
        return corners

    outer, inner = arc(0, -42, 24, 11, 180, -180, 13)[:12], arc(0, -42, 17, 5, 180, -180, 9)[:8]
    return np.concatenate([jaw, *brows, nose, eye(-1), eye(1), outer, inner])


def make_tiny_model(name: str = "tiny") -> MorphableModel:
    """Half an ellipsoid with a nose: 525 vertices, 6 shape and 4 expression modes, one texture island."""
    y, x = torch.meshgrid(torch.linspace(100, -100, ROWS), torch.linspace(-75, 75, COLUMNS), indexing="ij")
    inside = (1 - (x / 95) ** 2 - (y / 125) ** 2).clamp_min(0.02)
    z = 90 * inside.sqrt() + 26 * torch.exp(-((x / 13) ** 2) - ((y + 5) / 22) ** 2)
    mean = torch.stack([x, y, z], -1).reshape(-1, 3)
    corner = (torch.arange(ROWS - 1)[:, None] * COLUMNS + torch.arange(COLUMNS - 1)).reshape(-1, 1)
    lower, upper = torch.tensor([0, COLUMNS, COLUMNS + 1]), torch.tensor([0, COLUMNS + 1, 1])
    triangles = torch.cat([corner + lower, corner + upper]).to(torch.int32)

    def modes(count: int, shift: int) -> torch.Tensor:
        """Smooth symmetric fields of a few millimetres."""
        basis = torch.zeros(count, len(mean), 3)
        for k in range(count):
            wave = torch.cos(mean[:, 1] * (k + 1 + shift) / 60) * torch.cos(mean[:, 0] * (k + 1) / 70)
            basis[k, :, k % 3] = 2.5 * wave * (mean[:, 0] / 60 if k % 3 == 0 else 1)
        return basis

    places = torch.from_numpy(landmark_places()).float()
    nearest = torch.cdist(places, mean[:, :2]).argmin(1)
    index = torch.arange(len(mean)).view(ROWS, COLUMNS)
    return MorphableModel(
        name=name,
        mean=mean,
        triangles=triangles,
        shape_basis=modes(6, 0),
        exp_basis=modes(4, 2),
        exp_bounds=torch.tensor([[-3.0, 3.0]]).repeat(4, 1),
        landmark_triangles=nearest[:, None].repeat(1, 3),
        landmark_weights=torch.tensor([[1.0, 0.0, 0.0]]).repeat(68, 1),
        contour=nearest[:17, None].clone(),
        uv=torch.stack([x.reshape(-1) / 160 + 0.5, y.reshape(-1) / 210 + 0.5], 1),
        uv_triangles=triangles.clone(),
        shape_names=tuple(f"shape_{k}" for k in range(6)),
        exp_names=("jaw_open", "smile", "blink", "frown"),
        mirror=index.flip(1).reshape(-1).clone(),
        regions={"skin": torch.ones(len(mean))},
        source="made for the tests",
        licence="MIT",
    )


class TinyScene(NamedTuple):
    """A photograph of the tiny model: uint8 [H,W,3], its landmarks [68,2] and what is true of it."""

    photo: np.ndarray
    landmarks: np.ndarray
    vertices: torch.Tensor  # [1,V,3] camera space
    pose: Pose
    camera: OrthographicCamera


def surface_colour(points: np.ndarray) -> np.ndarray:
    """The colour [...,3] (0..255) of points [...,3] of the tiny model in model space: smooth, and not symmetric."""
    x, y = points[..., 0], points[..., 1]
    return np.stack([150 + x / 2 + y / 3, 140 - x / 3, 120 + 40 * np.sin(y / 25)], -1).clip(0, 255)


def make_scene(
    model: MorphableModel, *, size: tuple[int, int] = (240, 200), yaw: float = 0.0, scale: float = 0.9
) -> TinyScene:
    """Photograph the tiny model; ``yaw`` in radians, ``scale`` in pixels a millimetre."""
    from garfast.ops import interpolate, rasterize_normals

    height, width = size
    zero = torch.zeros(1)
    pose = Pose.from_euler(torch.tensor([yaw]), zero, zero)
    camera = OrthographicCamera(torch.tensor([scale]), torch.tensor([[width / 2 + 3.0, height / 2 - 2.0]]), size)
    shape = torch.linspace(-1, 1, model.num_shape)[None]
    model_space = model.evaluate(shape)
    vertices = pose.apply(model_space)
    output = rasterize_normals(vertices, model.triangles, camera.ndc(), size)
    points = interpolate(model_space, model.triangles, output)[0].permute(1, 2, 0).numpy()
    mask = output.mask[0, 0].numpy()[..., None] > 0.5
    photo = np.where(mask, surface_colour(points), np.array([40, 90, 60])).round().astype(np.uint8)
    landmarks = camera.project(model.landmarks(vertices))[0].numpy()
    return TinyScene(photo, landmarks, vertices, pose, camera)


def write_pts(path: Path, landmarks: np.ndarray) -> None:
    """Landmarks [68,2] in photo pixels as an iBUG .pts file, in which the top left pixel's centre is (1, 1)."""
    rows = "\n".join(f"{x:.4f} {y:.4f}" for x, y in landmarks + 0.5)
    path.write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")
