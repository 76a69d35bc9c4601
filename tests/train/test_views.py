from __future__ import annotations

import math

import pytest
import torch

from garfast.landmarks.alignment import TEMPLATE
from garfast.train.views import ViewChange, mix_colours, random_change


def _sphere(x: float, y: float, size: int = 64) -> torch.Tensor:
    """Normals of a sphere of radius 0.4 about (x, y) in -1..1, y up; [1, 3, S, S]."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    nx, ny = (axis[None] - x).expand(size, -1) / 0.4, (-axis[:, None] - y).expand(-1, size) / 0.4
    nz = (1 - nx**2 - ny**2).clamp_min(0).sqrt()
    return torch.stack([nx, ny, nz])[None] * (nz > 0)


@pytest.mark.parametrize(("angle", "mirrored"), [(0.0, True), (0.5, False), (-0.4, True)])
def test_normals_turn_with_the_picture(angle, mirrored):
    before = _sphere(0.3, 0.2)
    x, y = (-0.3 if mirrored else 0.3), 0.2
    # Clockwise on the screen, which is the negative sense where y points up.
    cos, sin = math.cos(angle), math.sin(angle)
    expected = _sphere(cos * x + sin * y, cos * y - sin * x)
    change = ViewChange(torch.tensor([angle]), torch.ones(1), torch.zeros(1, 2), torch.tensor([mirrored]))
    images, turned = change.pictures(before, 64), change.normals(before, 64)
    inside = (expected[:, 2:] > 0.4).expand_as(expected)
    assert (turned - expected)[inside].abs().mean() < 0.01
    # The picture goes the same way, its values untouched: where the sphere's z was, it is now.
    assert (images[:, 2] - expected[:, 2])[expected[:, 2] > 0.4].abs().mean() < 0.01


def test_views_shrink_and_shift_together():
    before = _sphere(0.0, 0.0, 128)
    change = ViewChange(torch.zeros(1), torch.tensor([1.25]), torch.tensor([[0.1, 0.0]]), torch.tensor([False]))
    images, normals = change.pictures(before, 64), change.normals(before, 64)
    assert images.shape == normals.shape == (1, 3, 64, 64)
    column = (normals[0, 2].amax(0) > 0.5).float()
    middle = float((column * torch.arange(64)).sum() / column.sum()) + 0.5
    # The window's middle moved a tenth of the side right: the sphere lies 0.2 * 1.25 of half the view to the left.
    assert middle == pytest.approx(32 * (1 - 0.25), abs=0.6)
    assert (images - normals).abs().mean() < 0.02


def test_landmarks_go_with_the_picture():
    rng = torch.Generator().manual_seed(2)
    change = random_change(rng, 12)
    points = torch.tensor(TEMPLATE).expand(12, -1, -1)
    # A ramp in x and one in y say where each pixel of the view comes from.
    axis = (torch.arange(96) + 0.5) / 96
    ramps = torch.stack([axis[None].expand(96, -1), axis[:, None].expand(-1, 96)])[None].repeat(12, 1, 1, 1)
    seen = change.pictures(ramps, 96)
    moved = change.landmarks(points)
    found = torch.nn.functional.grid_sample(seen, moved[:, None] * 2 - 1, align_corners=False)[:, :, 0].transpose(1, 2)
    mirrored = points * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    # The template is symmetric, so a mirrored landmark lies where its mirror image was.
    assert change.mirrored.any()
    assert not change.mirrored.all()
    expected = torch.where(change.mirrored[:, None, None], mirrored, points)
    assert (found - expected).abs().max() < 0.01


def test_colours_stay_colours():
    images = torch.rand(4, 3, 8, 8)
    mixed = mix_colours(torch.Generator().manual_seed(0), images)
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    assert 0.001 < (mixed - images).abs().mean() < 0.1
