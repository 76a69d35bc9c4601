"""A renderer with all its networks, small and random, for tests that need no likeness."""

from __future__ import annotations

import torch

from garfast.networks.generator import Generator, GeneratorConfig
from garfast.networks.inverter import Inverter
from garfast.networks.normal_estimator import NormalEstimator, NormalEstimatorConfig
from garfast.networks.perceptual import PerceptualConfig, PerceptualNet
from garfast.networks.renderer import Renderer


def make_renderer(size: int = 32, *, inverter: bool = True, normals: bool = True, perceptual: bool = True) -> Renderer:
    """Networks of a few thousand weights; G depends on normals, style and noise."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        size=size, z_dim=16, style_dim=16, mapping_layers=2, channel_base=256, channel_max=16, nim_channels=4
    )
    generator = Generator(config)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if "heads" in name or "noise_strength" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
        generator.mapping.update_mean(generator.mapping(torch.randn(256, 16)), decay=0.0)
    networks = Renderer(
        generator.eval(),
        Inverter(config).eval() if inverter else None,
        NormalEstimator(NormalEstimatorConfig(widths=(8, 16))).eval() if normals else None,
        None,
        PerceptualNet(PerceptualConfig(widths=(8, 8, 8, 8), depths=(1, 1, 1, 1))).eval() if perceptual else None,
    )
    for network in networks.networks().values():
        network.requires_grad_(False)
    return networks
