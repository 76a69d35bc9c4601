"""The adversary that looks at a frozen network's features."""

from __future__ import annotations

import torch

from garfast.networks.perceptual import PerceptualConfig, PerceptualNet
from garfast.networks.projected import ProjectedDiscriminator


def frozen_features() -> PerceptualNet:
    torch.manual_seed(3)
    config = PerceptualConfig(size=32, widths=(4, 6, 8, 8), depths=(1, 1, 1, 1))
    return PerceptualNet(config).eval().requires_grad_(False)


def test_every_feature_map_has_its_say_place_by_place():
    features = frozen_features()
    discriminator = ProjectedDiscriminator(features, 64, width=4)
    image = torch.randn(2, 3, 64, 64)
    # Sides 32, 16, 8, 4 of the picture, then 16, 8, 4, 2 of its half; what is finer than 8 is brought down to that.
    places = sum(min(side, 8) ** 2 for side in (32, 16, 8, 4, 16, 8, 4, 2))
    assert discriminator(image).shape == (2, places)
    seen = discriminator.look(image)
    assert all(torch.equal(a, b) for a, b in zip(seen, features.features(image), strict=True))
    assert torch.equal(discriminator.judge(seen), discriminator(image))


def test_only_its_own_weights_are_trained_and_stored():
    features = frozen_features()
    discriminator = ProjectedDiscriminator(features, 32, width=4)
    image = torch.randn(2, 3, 32, 32, requires_grad=True)
    discriminator(image).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in discriminator.parameters())
    assert all(p.grad is None for p in features.parameters())
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(name.startswith("heads.") for name in discriminator.state_dict())


def test_it_has_the_second_derivatives_of_the_gradient_penalty():
    discriminator = ProjectedDiscriminator(frozen_features(), 32, width=4)
    reference = ProjectedDiscriminator(frozen_features(), 32, width=4, impl="reference")
    reference.load_state_dict(discriminator.state_dict())
    penalties = []
    for network in (discriminator, reference):
        image = torch.linspace(-1, 1, 2 * 3 * 32 * 32).sin().reshape(2, 3, 32, 32).requires_grad_()
        (gradient,) = torch.autograd.grad(network(image).sum(), image, create_graph=True)
        gradient.square().sum().backward()
        penalties.append(network.heads[0][0].weight.grad)
    torch.testing.assert_close(penalties[0], penalties[1], rtol=1e-3, atol=1e-6)
