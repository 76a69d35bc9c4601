"""Discriminator, inverter and normal estimator: shapes, statistics, and the errors a user can cause."""

from __future__ import annotations

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.networks.discriminator import Discriminator, DiscriminatorConfig, minibatch_stddev
from garfast.networks.generator import Generator, GeneratorConfig
from garfast.networks.inverter import Inverter
from garfast.networks.normal_estimator import NormalEstimator, NormalEstimatorConfig
from tests.networks.test_generator import TINY, pyramid


def test_discriminator_gives_one_number_per_image():
    discriminator = Discriminator(DiscriminatorConfig(size=16, channel_base=128, channel_max=8))
    assert discriminator(torch.randn(6, 3, 16, 16)).shape == (6,)
    with pytest.raises(ArgumentError, match=r"image must have shape \[B, 3, 16, 16\]"):
        discriminator(torch.randn(6, 3, 8, 8))


def test_discriminator_agrees_with_the_reference_and_has_second_derivatives():
    config = DiscriminatorConfig(size=16, channel_base=128, channel_max=8)
    kernels, reference = Discriminator(config), Discriminator(config, impl="reference")
    reference.load_state_dict(kernels.state_dict())
    image = torch.randn(4, 3, 16, 16)
    penalties = []
    for network in (kernels, reference):
        leaf = image.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf).sum(), leaf, create_graph=True)
        penalty = gradient.square().sum()
        penalty.backward()
        penalties.append((penalty.detach(), network.blocks[0].first.weight.grad))
    torch.testing.assert_close(penalties[0], penalties[1], rtol=1e-3, atol=1e-5)


def test_minibatch_stddev_is_the_groups_mean_deviation():
    x = torch.tensor([1.0, 3.0, 5.0, 9.0]).reshape(4, 1, 1, 1).expand(4, 2, 3, 3)
    out = minibatch_stddev(x, 2)
    # Groups are images (0, 2) and (1, 3): deviations 2 and 3.
    assert out.shape == (4, 3, 3, 3)
    torch.testing.assert_close(out[:, 2, 0, 0], torch.tensor([2.0, 3.0, 2.0, 3.0]))
    assert minibatch_stddev(x[:3], 2)[:, 2].abs().max() < 1e-3  # 3 images have no groups of 2: each stands alone


def test_inverter_mirrors_the_generator():
    config = GeneratorConfig(**TINY)
    inversion = Inverter(config)(torch.randn(2, 3, 16, 16))
    out = Generator(config)(pyramid(config, 2), inversion.z, noise=inversion.noise)
    assert [f.shape for f in inversion.features] == [f.shape for f in out.features]
    for noise in inversion.noise[1:]:
        torch.testing.assert_close(noise.mean([1, 2, 3]), torch.zeros(2), rtol=0, atol=1e-4)
        torch.testing.assert_close(noise.std([1, 2, 3]), torch.ones(2), rtol=0, atol=1e-2)


def test_standardised_statistics_start_the_inverters_mlps_anew():
    network = Inverter(GeneratorConfig(**TINY))
    images = torch.randn(6, 3, 16, 16)
    statistics = network.statistics(network.features(images)).detach()
    z, offset = network.answer(statistics)
    torch.testing.assert_close(z, network(images).z)
    assert offset.shape == (6, network.config.style_dim)
    assert not offset.any()
    network.standardise(statistics)
    x = (statistics - network.statistics_mean) * network.statistics_scale
    torch.testing.assert_close(x.mean(0), torch.zeros(len(x[0])), rtol=0, atol=1e-4)
    assert float(x.std(0).max()) <= 1.001
    assert not torch.allclose(network(images).z, z)


def test_normals_have_unit_length():
    estimate = NormalEstimator(NormalEstimatorConfig(widths=(8, 8, 8)))(torch.randn(2, 3, 24, 16))
    assert estimate.normals.shape == (2, 3, 24, 16)
    assert estimate.mask_logits.shape == (2, 1, 24, 16)
    torch.testing.assert_close(estimate.normals.norm(dim=1), torch.ones(2, 24, 16))
    with pytest.raises(ArgumentError, match="sides divisible by 8"):
        NormalEstimator(NormalEstimatorConfig(widths=(8, 8, 8)))(torch.randn(1, 3, 18, 16))
