"""What a generator is shown of a mesh."""

from __future__ import annotations

import pytest
import torch

from garfast.fit.normal_pyramid import averaged_normals, sample_sizes
from garfast.networks.generator import Generator, GeneratorConfig
from garfast.ops import rasterize_normals


def test_normals_are_averaged_from_twice_the_resolution() -> None:
    # Two walls that meet in an upright edge through the middle of the second column of 4x4 pixels. Its corners are
    # there twice, so that each wall has one normal.
    edge = -0.25
    left, right = torch.nn.functional.normalize(torch.tensor([[-0.8, 0, 1], [0.48, 0, 1]]), dim=1)
    vertices = torch.tensor([[x, y, z] for y in (-1.0, 1) for x, z in ((-1, 0), (edge, 0.6), (edge, 0.6), (1, 0))])
    triangles = torch.tensor([[0, 1, 5], [0, 5, 4], [2, 3, 7], [2, 7, 6]])
    levels = rasterize_normals(vertices[None], triangles, torch.tensor([1.0, 1, 0, 0]), [2, 4, 8])
    two, four = averaged_normals(levels)
    middle = torch.nn.functional.normalize(left + right, dim=0)
    assert two.shape == (1, 3, 2, 2)
    torch.testing.assert_close(four[0, :, :, 0], left[:, None].expand(3, 4))
    torch.testing.assert_close(four[0, :, :, 1], middle[:, None].expand(3, 4))
    torch.testing.assert_close(four[0, :, :, 3], right[:, None].expand(3, 4))


def test_what_the_middle_of_a_pixel_does_not_show_stays_empty() -> None:
    # Covers one of the four samples of pixel (0, 0), not its middle.
    vertices = torch.tensor([[[-1.0, 1, 0], [-1, 0.4, 0], [-0.4, 1, 0]]], requires_grad=True)
    levels = rasterize_normals(vertices, torch.tensor([[0, 1, 2]]), torch.tensor([1.0, 1, 0, 0]), [2, 4])
    assert levels[1].mask.sum() == 1
    (normals,) = averaged_normals(levels)
    assert (normals == 0).all()
    normals.sum().backward()
    assert vertices.grad is not None
    assert vertices.grad.isfinite().all()


@pytest.mark.parametrize("size", [32, 64])
def test_sample_sizes(size: int) -> None:
    config = GeneratorConfig(size=size, channel_max=8, channel_base=64, z_dim=8, style_dim=8)
    sizes = sample_sizes(Generator(config))
    assert sizes == [*config.resolutions, 2 * size]
