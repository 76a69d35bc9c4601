"""The terms of equation 10: known values, and gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from garfast.errors import ArgumentError
from garfast.fit import refine_losses as terms
from garfast.morphable import axis_angle_to_matrix


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHTS = random(2, 1, 4, 4, seed=9).abs()
OTHER = random(2, 3, 4, 4, seed=8)
UNIT = functional.normalize(OTHER, dim=1)
POINTS = random(2, 68, 2, seed=7)

CASES: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "charbonnier": (lambda x: terms.charbonnier(x, OTHER, WEIGHTS), random(2, 3, 4, 4)),
    "normals, near and far": (lambda x: terms.normal_disagreement(x, UNIT, WEIGHTS, 0.9), random(2, 3, 4, 4)),
    "blurred normals": (lambda x: terms.blurred_normals(x, WEIGHTS, terms.tent(1)).sum((1, 2, 3)), random(2, 3, 4, 4)),
    "landmarks": (lambda x: terms.landmark_distance(x, POINTS, POINTS[..., 0].abs(), 0.5), random(2, 68, 2)),
    "shape": (lambda x: terms.coefficient_prior(x, random(2, 3)), random(2, 5)),
    "exp": (lambda x: terms.coefficient_prior(random(2, 5), x), random(2, 3)),
    "latent": (lambda x: terms.latent_prior(x, random(6)), random(2, 4, 6, seed=1)),
    "noise": (lambda x: terms.noise_correlation([x[:, :, :4, :4], x, x]), random(2, 1, 16, 16)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    loss, x = CASES[name]
    assert loss(x).shape == (2,)
    assert torch.autograd.gradcheck(loss, (x.requires_grad_(True),))


def test_faces_do_not_mix() -> None:
    for loss, x in CASES.values():
        if x.shape[-1] in (5, 3):
            continue
        leaf = x.detach().clone().requires_grad_(True)
        loss(leaf)[0].backward()
        assert leaf.grad is not None
        assert (leaf.grad[1] == 0).all()
        assert leaf.grad[0].abs().sum() > 0


def test_masked_mean_of_nothing_is_zero() -> None:
    values = torch.ones(2, 3, 4, 4)
    weights = torch.zeros(2, 1, 4, 4)
    weights[1, 0, 0, 0] = 0.5
    assert terms.masked_mean(values, weights).tolist() == pytest.approx([0, 1])


def test_blurred_normals() -> None:
    """A flat field stays, a spike is spread out, and what has no weight is not seen."""
    torch.testing.assert_close(terms.tent(1), torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0]) / 9)
    flat = torch.zeros(1, 3, 9, 9)
    flat[:, 2] = 1
    weights = torch.ones(1, 1, 9, 9)
    torch.testing.assert_close(terms.blurred_normals(flat, weights, terms.tent(2)), flat)
    spiked = flat.clone()
    spiked[0, :, 4, 4] = torch.tensor([1.0, 0.0, 0.0])
    blurred = terms.blurred_normals(spiked, weights, terms.tent(1))
    torch.testing.assert_close(blurred.norm(dim=1), torch.ones(1, 9, 9))
    assert 0 < blurred[0, 0, 4, 4] < 0.2
    assert blurred[0, 0, 4, 6] > 0
    assert blurred[0, 0, 4, 7] == 0
    weights[0, 0, 4, 4] = 0
    torch.testing.assert_close(terms.blurred_normals(spiked, weights, terms.tent(1)), flat)
    assert terms.blurred_normals(spiked, weights, terms.tent(0)) is spiked


def test_normals_measure_angles() -> None:
    angle = torch.tensor(0.02)
    a = torch.zeros(1, 3, 2, 2)
    b = torch.zeros(1, 3, 2, 2)
    a[:, 2] = 1
    b[:, 0], b[:, 2] = angle.sin(), angle.cos()
    weights = torch.ones(1, 1, 2, 2)
    assert terms.normal_disagreement(a, b, weights, 0.1).item() == pytest.approx(0.02**2 / 0.2, rel=1e-3)
    assert terms.mean_angle(a, b, weights).item() == pytest.approx(1.146, rel=1e-2)


def test_a_tilt_of_the_whole_face_is_left_out() -> None:
    normals = functional.normalize(random(2, 3, 8, 8) + torch.tensor([0.0, 0.0, 3.0])[:, None, None], dim=1)
    weights = random(2, 1, 8, 8, seed=1).abs()
    turn = axis_angle_to_matrix(torch.tensor([[0.05, -0.1, 0.02], [0.5, 0.5, 0.0]], dtype=torch.float64))
    tilted = (turn @ normals.flatten(2)).view_as(normals)
    assert terms.without_tilt(tilted, normals, weights, 0.0) is tilted
    left = terms.mean_angle(normals, terms.without_tilt(tilted, normals, weights, 0.25), weights)
    assert left[0] < 0.5
    assert 10 < left[1] < terms.mean_angle(normals, tilted, weights)[1] - 10  # more than it may turn
    nothing = terms.without_tilt(tilted, normals, torch.zeros_like(weights), 0.25)
    torch.testing.assert_close(nothing, tilted)


def test_missing_landmarks_have_no_say() -> None:
    points = torch.zeros(1, 68, 2, requires_grad=True)
    targets = torch.zeros(1, 68, 2)
    targets[0, 3] = torch.nan
    targets[0, 4] = 3.0
    weights = torch.ones(1, 68)
    weights[0, 3] = 0
    loss = terms.landmark_distance(points, targets, weights, 1.0)
    assert loss.item() == pytest.approx(50 * ((1 + 18 / 25) ** 0.5 - 1) / 68)
    loss.sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()
    assert (points.grad[0, 3] == 0).all()


def test_a_hand_in_the_picture_loses_its_weight() -> None:
    photo = 0.05 * torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    render = torch.zeros_like(photo)
    photo[..., 20:28, 4:12] += 0.8
    weights = terms.inlier_weights(render, photo, torch.ones(1, 1, 32, 32), 3.0)
    assert weights[..., 22:26, 6:10].max() < 0.2
    assert weights[..., :16, 16:].min() > 0.8


def test_white_noise_is_uncorrelated_and_a_picture_is_not() -> None:
    white = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(white[..., :8, :8], size=64, mode="bicubic")
    assert terms.noise_correlation([white]) < 0.1
    assert terms.noise_correlation([smooth]) > 2
    flat = terms.renormalise(3 * smooth + 1)
    assert flat.mean().item() == pytest.approx(0, abs=1e-5)
    assert flat.square().mean().item() == pytest.approx(1, abs=1e-4)
    with pytest.raises(ArgumentError, match="8 or more"):
        terms.noise_correlation([torch.zeros(1, 1, 4, 4)])
