"""Every loss against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from garfast.train.gar.losses import (
    PathLength,
    discriminator_adversarial,
    face_weight,
    generator_adversarial,
    identity_consistency,
    landmark_consistency,
    multiscale_l1,
    normal_consistency,
    r1_penalty,
    spread_on_sphere,
)


def test_normal_consistency_counts_only_the_face():
    normals = torch.zeros(1, 3, 2, 2)
    normals[0, 2, 0, 0] = 1.0
    normals[0, 0, 1, 1] = 1.0
    estimate = torch.full((1, 3, 2, 2), 9.0)
    estimate[0, :, 0, 0] = torch.tensor([0.0, 0.0, 0.5])  # off by 0.5 in one channel: smooth-L1 0.125
    estimate[0, :, 1, 1] = torch.tensor([3.0, 0.0, 0.0])  # off by 2: smooth-L1 1.5
    assert float(normal_consistency(estimate, normals)) == pytest.approx((0.125 + 1.5) / 6)


def test_normal_consistency_without_a_face_is_zero():
    assert float(normal_consistency(torch.randn(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))) == 0.0


def test_landmark_consistency_is_a_mean_distance():
    first = torch.zeros(1, 2, 2)
    second = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    assert float(landmark_consistency(first, second)) == pytest.approx(2.5, abs=1e-5)


def test_landmark_consistency_has_a_gradient_where_both_agree():
    first = torch.zeros(1, 2, 2, requires_grad=True)
    landmark_consistency(first, torch.zeros(1, 2, 2)).backward()
    assert torch.isfinite(first.grad).all()


def test_identity_consistency_is_a_squared_distance():
    first, second = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    assert float(identity_consistency(first, second)) == pytest.approx(1.0)


def test_adversarial_losses():
    zero = torch.zeros(3)
    assert float(generator_adversarial(zero)) == pytest.approx(math.log(2))
    assert float(discriminator_adversarial(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(generator_adversarial(torch.tensor([2.0]))) == pytest.approx(math.log1p(math.exp(-2)))


def test_r1_is_the_squared_gradient_and_reaches_weights():
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    weight = torch.full((3, 4, 4), 0.5, requires_grad=True)
    penalty = r1_penalty((images * weight).sum((1, 2, 3)), images)
    assert float(penalty.detach()) == pytest.approx(48 * 0.25)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())


def test_path_length_of_a_linear_renderer():
    """image = w A^T + maps * m: the lengths are known, and the running mean follows them."""
    path = PathLength(decay=1.0)
    w = torch.randn(2, 1, 5, requires_grad=True)
    maps = torch.randn(2, 3, 4, 4, requires_grad=True)
    basis = torch.randn(48, 5)
    scale = torch.tensor(0.7, requires_grad=True)
    image = (w[:, 0] @ basis.T).view(2, 3, 4, 4) + scale * maps
    direction = torch.randn(2, 3, 4, 4)
    penalty = path(image, w, [maps], direction)
    lengths_w = (direction.flatten(1) @ basis / 4).norm(dim=1)
    lengths_maps = (0.7 * direction / 4).flatten(1).norm(dim=1)
    assert float(path.mean_w) == pytest.approx(float(lengths_w.mean()), rel=1e-5)
    assert float(path.mean_maps) == pytest.approx(float(lengths_maps.mean()), rel=1e-5)
    wanted = lengths_w.var(unbiased=False) + lengths_maps.var(unbiased=False)
    assert float(penalty.detach()) == pytest.approx(float(wanted), rel=1e-4, abs=1e-6)
    penalty.backward()
    assert torch.isfinite(scale.grad)


def test_path_length_without_maps():
    w = torch.randn(2, 1, 3, requires_grad=True)
    image = nn.Linear(3, 12)(w[:, 0]).view(2, 3, 2, 2)
    assert torch.isfinite(PathLength()(image, w, [], torch.randn(2, 3, 2, 2)))


def test_spread_prefers_codes_far_apart():
    together = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    assert float(spread_on_sphere(together)) == pytest.approx(0.0, abs=1e-5)
    opposite = torch.tensor([[1.0, 0.0], [-3.0, 0.0]])
    assert float(spread_on_sphere(opposite)) == pytest.approx(-8.0, abs=1e-3)


def test_the_face_weighs_three_times_what_is_beside_it():
    normals = torch.zeros(1, 3, 4, 4)
    normals[:, 2, :2] = 1
    assert face_weight(normals, 4).tolist() == [[[[1.5] * 4] * 2 + [[0.5] * 4] * 2]]
    assert face_weight(normals, 8).shape == (1, 1, 8, 8)


def test_multiscale_l1():
    first, second = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    second[..., 0, 0] = 1.0
    # One pixel of sixteen, then a quarter of one of four, then a sixteenth of one.
    assert float(multiscale_l1(first, second)) == pytest.approx(1 / 16)
    weight = torch.zeros(1, 1, 4, 4)
    weight[..., 3, 3] = 1
    assert float(multiscale_l1(first, second, weight, levels=1)) == 0.0
