from __future__ import annotations

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.train.gar.augment import AdaController, AugmentConfig, _Sample, augment

NONE = AugmentConfig(shift=0, scale=0, turn=0, brightness=0, contrast=0, hue=0, saturation=0)
ALL = AugmentConfig(flip=True, luma_flip=True, noise=0.1, cutout=0.4)


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _only(**strengths: float) -> AugmentConfig:
    return AugmentConfig(**{**{name: getattr(NONE, name) for name in NONE.__dataclass_fields__}, **strengths})


def test_nothing_happens_with_probability_0_or_without_transforms():
    images = torch.randn(4, 3, 8, 12, generator=_rng())
    assert augment(images, 0.0, _rng(), ALL) is images
    assert torch.allclose(augment(images, torch.zeros(()), _rng(), ALL), images, atol=1e-5)
    assert torch.allclose(augment(images, 1.0, _rng(), NONE), images, atol=1e-6)


def test_probability_is_each_samples_own():
    images = torch.rand(64, 3, 8, 8, generator=_rng()) * 2 - 1
    p = torch.arange(64) % 2 / 1.0
    same = (augment(images, p, _rng(), ALL) - images).abs().amax((1, 2, 3)) < 1e-5
    assert same[::2].all()
    assert not same[1::2].any()
    half = (augment(images, 0.5, _rng(), _only(brightness=0.2)) - images).abs().amax((1, 2, 3)) < 1e-5
    assert 16 < half.sum() < 48


def test_a_shift_moves_whole_pixels_and_uncovers_the_mirrored_picture():
    images = torch.randn(16, 3, 16, 16, generator=_rng())
    out = augment(images, 1.0, _rng(), _only(shift=0.25))
    found = set()
    for image, moved in zip(images, out, strict=True):
        padded = torch.nn.functional.pad(image[None], (4, 4, 4, 4), mode="replicate")[0]
        for dy in range(-4, 5):
            for dx in range(-4, 5):
                candidate = padded[:, 4 - dy : 20 - dy, 4 - dx : 20 - dx]
                inside = (slice(None), slice(max(dy, 0), 16 + min(dy, 0)), slice(max(dx, 0), 16 + min(dx, 0)))
                if torch.allclose(candidate[inside], moved[inside], atol=1e-4):
                    found.add((dx, dy))
    assert len(found) > 8
    edge = augment(images[:1], 1.0, _rng(3), _only(shift=0.25))
    assert edge.abs().max() <= images[:1].abs().max() + 1e-4


def test_a_mirrored_picture():
    images = torch.randn(32, 3, 6, 10, generator=_rng())
    out = augment(images, 1.0, _rng(), _only(flip=True))
    mirrored = (out - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-4
    same = (out - images).abs().amax((1, 2, 3)) < 1e-4
    assert (mirrored ^ same).all()
    assert 4 < mirrored.sum() < 28


def test_a_turn_keeps_pixels_square_in_oblong_pictures():
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(128) - 63.5, indexing="ij")
    disc = ((x / 16) ** 2 + (y / 16) ** 2 < 1).float().expand(4, 3, 64, 128)
    out = augment(disc, 1.0, _rng(), _only(turn=45.0))
    assert ((out - disc).abs() > 0.6).float().mean() < 0.002
    bar = ((x.abs() < 20) & (y.abs() < 2)).float().expand(4, 3, 64, 128)
    assert (augment(bar, 1.0, _rng(), _only(turn=45.0)).sum((1, 2, 3)) / bar.sum((1, 2, 3)) - 1).abs().max() < 0.03


def test_hue_and_saturation_leave_gray_alone_and_hue_keeps_lengths():
    gray = torch.rand(8, 1, 4, 4, generator=_rng()).expand(-1, 3, -1, -1) * 2 - 1
    assert torch.allclose(augment(gray, 1.0, _rng(), _only(hue=180.0, saturation=1.0)), gray, atol=1e-5)
    colours = torch.randn(8, 3, 4, 4, generator=_rng())
    turned = augment(colours, 1.0, _rng(), _only(hue=180.0))
    assert torch.allclose(turned.norm(dim=1), colours.norm(dim=1), atol=1e-4)
    assert torch.allclose(turned.mean(1), colours.mean(1), atol=1e-5)
    assert not torch.allclose(turned, colours, atol=0.1)


def test_the_square_cut_out_has_its_size():
    out = augment(torch.ones(32, 3, 40, 40), 1.0, _rng(), _only(cutout=0.25))
    assert (out == 0).float().mean((1, 2, 3)).max() == pytest.approx(0.0625, abs=0.008)


def test_sampling_has_derivatives_of_any_order():
    images = torch.randn(2, 2, 5, 4, generator=_rng(), dtype=torch.float64, requires_grad=True)
    grid = torch.rand(2, 3, 6, 2, generator=_rng(), dtype=torch.float64) * 3 - 1.5
    assert torch.autograd.gradcheck(lambda x: _Sample.apply(x, grid), images)
    assert torch.autograd.gradgradcheck(lambda x: _Sample.apply(x, grid).sin(), images)


def test_the_gradient_penalty_goes_through():
    """R1 of a small network behind the transforms, against the transforms written out as a matrix."""
    config = AugmentConfig(flip=True)
    images = torch.randn(2, 3, 4, 4, generator=_rng())
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(48, 5), torch.nn.Softplus(), torch.nn.Linear(5, 1)
    )

    def penalty(transform):
        x = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(transform(x)).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), list(network.parameters())[:3])

    def linear(x):
        zero = augment(torch.zeros(2, 3, 4, 4), 1.0, _rng(), config)
        basis = torch.eye(48).view(48, 3, 4, 4)
        columns = torch.stack(
            [augment(e.expand(2, -1, -1, -1), 1.0, _rng(), config) - zero for e in basis], -1
        ).flatten(1, 3)
        return (columns @ x.flatten(1)[..., None]).view_as(x) + zero

    mine = penalty(lambda x: augment(x, 1.0, _rng(), config))
    for a, b in zip(mine, penalty(linear), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_same_seed_same_pictures_and_no_autocast():
    images = torch.randn(3, 3, 8, 8, generator=_rng())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        first = augment(images.bfloat16(), 0.8, _rng(5), ALL)
    assert first.dtype == torch.float32
    assert torch.equal(first, augment(images.bfloat16(), 0.8, _rng(5), ALL))
    with pytest.raises(ArgumentError, match="B, 3, H, W"):
        augment(images[:, :2], 0.5)


def test_the_controller_follows_the_sign_of_the_answers():
    controller = AdaController(target=0.6, interval=2, kimg=0.1)
    for _ in range(2):
        controller.observe(torch.ones(10))
        controller.update()
    assert controller.measure == 1
    assert controller.p == pytest.approx(0.2)
    for _ in range(2):
        controller.observe(torch.tensor([1.0, -1.0]))
        controller.update()
    assert controller.measure == 0
    assert controller.p == pytest.approx(0.2 - 0.04)
    for _ in range(20):
        controller.observe(torch.ones(10))
        controller.update()
    assert controller.p == 0.85


def test_the_controller_counts_pictures_however_many_answers_each_gets():
    one, many = AdaController(interval=1, kimg=0.1), AdaController(interval=1, kimg=0.1)
    one.observe(torch.ones(10))
    many.observe(torch.ones(10, 464))
    assert one.update() == many.update() == pytest.approx(0.1)


def test_the_controllers_state_goes_on_within_an_interval():
    whole, part = AdaController(interval=3, kimg=0.1), AdaController(interval=3, kimg=0.1)
    answers = torch.randn(9, 4, generator=_rng()) + 1.5
    for k, row in enumerate(answers):
        whole.observe(row)
        whole.update()
        if k == 4:
            state = part.state_dict()
            part = AdaController(interval=3, kimg=0.1)
            part.load_state_dict(state)
        part.observe(row)
        part.update()
    assert part.state_dict() == whole.state_dict()
    assert whole.p > 0
    with pytest.raises(ArgumentError, match="interval 0"):
        AdaController(interval=0)
