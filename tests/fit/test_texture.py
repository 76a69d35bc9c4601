"""The texture shows what the photograph shows, where it shows it, and continues it plausibly elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from garfast.fit.texture import sample_texture, unwrap
from garfast.morphable import MorphableModel, PinholeCamera
from garfast.ops import interpolate, rasterize_normals
from tests.tiny_face import make_scene, surface_colour

SIZE = 128


def true_texture(model: MorphableModel, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The colours that the tiny model has, texel by texel, and which texels are on it."""
    uv, uv_triangles = unwrap(model)
    flat = torch.cat([uv, torch.zeros_like(uv[:, :1])], 1)[None]
    output = rasterize_normals(flat, uv_triangles, torch.tensor([2.0, 2.0, -1.0, -1.0]), size, cull_backfaces=False)
    shape = torch.linspace(-1, 1, model.num_shape)[None]
    points = interpolate(model.evaluate(shape), model.triangles, output)[0].permute(1, 2, 0).numpy()
    return surface_colour(points), output.mask[0, 0].numpy() > 0.5


def test_frontal_photograph(tiny_model: MorphableModel) -> None:
    scene = make_scene(tiny_model)
    texture = sample_texture(scene.photo, scene.vertices[0], tiny_model, scene.camera, size=SIZE)
    truth, on_face = true_texture(tiny_model, SIZE)
    assert texture.shape == (SIZE, SIZE, 3)
    assert texture.dtype == np.uint8
    error = np.abs(texture - truth).max(2)
    # Seen nearly from the front: as the photograph. Toward the grazing sides: a smooth continuation.
    from_centre = np.abs(np.arange(SIZE) / SIZE - 0.5)
    middle = on_face & (from_centre < 0.25)[None] & (from_centre < 0.3)[:, None]
    assert np.quantile(error[middle], 0.99) < 6
    assert error[on_face].mean() < 12
    # Nothing of the background.
    assert np.abs(texture.astype(int) - np.array([40, 90, 60])).max(2).min() > 30


def test_the_hidden_side_is_mirrored(tiny_model: MorphableModel) -> None:
    scene = make_scene(tiny_model, yaw=0.8)
    args = (scene.photo, scene.vertices[0])
    with_mirror = sample_texture(*args, tiny_model, scene.camera, size=SIZE)
    without = sample_texture(*args, dataclasses.replace(tiny_model, mirror=None), scene.camera, size=SIZE)
    truth, on_face = true_texture(tiny_model, SIZE)
    right = on_face & (np.arange(SIZE) > 0.68 * SIZE)[None]  # turned to image right, its image right side is hidden
    # The colours are asymmetric by design, so neither is exact; the mirrored vertical pattern must be there.
    blue = lambda image: np.abs(image[..., 2] - truth[..., 2])[right].mean()  # noqa: E731
    assert blue(with_mirror.astype(float)) < 12
    assert blue(with_mirror.astype(float)) < blue(without.astype(float))


def test_pinhole_and_a_face_beyond_the_border(tiny_model: MorphableModel) -> None:
    scene = make_scene(tiny_model)
    height, width = scene.photo.shape[:2]
    away = scene.vertices[0] - torch.tensor([0.0, 0.0, 2000.0])
    centre = torch.tensor([[width / 2 + 3.0, height / 2 - 2.0]])
    pinhole = PinholeCamera(torch.full((1, 2), 0.9 * 1950), centre, (height, width))
    texture = sample_texture(scene.photo, away, tiny_model, pinhole, size=SIZE)
    flat = sample_texture(scene.photo, scene.vertices[0], tiny_model, scene.camera, size=SIZE)
    assert np.abs(texture.astype(int) - flat)[40:90, 40:90].mean() < 5

    outside = PinholeCamera(torch.full((1, 2), 0.9 * 1950), centre + 10_000, (height, width))
    assert len(np.unique(sample_texture(scene.photo, away, tiny_model, outside, size=32).reshape(-1, 3), axis=0)) < 5


@pytest.mark.parametrize(("size", "scale", "side"), [((240, 200), 0.9, 512), ((1000, 900), 4.5, 1024)])
def test_the_texture_is_as_fine_as_the_photograph(
    tiny_model: MorphableModel, size: tuple[int, int], scale: float, side: int
) -> None:
    scene = make_scene(tiny_model, size=size, scale=scale)
    texture = sample_texture(scene.photo, scene.vertices[0], tiny_model, scene.camera)
    assert texture.shape == (side, side, 3)


def test_a_model_without_texture_coordinates(tiny_model: MorphableModel) -> None:
    bare = dataclasses.replace(
        tiny_model, uv=torch.zeros(0, 2), uv_triangles=torch.zeros(0, 3, dtype=torch.int32), regions={}
    )
    uv, uv_triangles = unwrap(bare)
    assert uv.shape == (bare.num_vertices, 2)
    assert uv.min() >= 0
    assert uv.max() <= 1
    assert (uv_triangles == bare.triangles).all()
    # u grows to image right and v upward.
    assert torch.corrcoef(torch.stack([uv[:, 0], bare.mean[:, 0]]))[0, 1] > 0.9
    scene = make_scene(tiny_model)
    texture = sample_texture(scene.photo, scene.vertices[0], bare, scene.camera, size=64)
    truth, _ = true_texture(bare, 64)
    assert np.abs(texture - truth)[20:44, 20:44].mean() < 6


@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_small_and_large_photographs_agree(tiny_model: MorphableModel, factor: float) -> None:
    size = (round(240 * factor), round(200 * factor))
    scene = make_scene(tiny_model, size=size, scale=0.9 * factor)
    texture = sample_texture(scene.photo, scene.vertices[0], tiny_model, scene.camera, size=64)
    truth, _ = true_texture(tiny_model, 64)
    assert np.abs(texture - truth)[20:44, 20:44].mean() < 4
