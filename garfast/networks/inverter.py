"""The inverting network V (R in the paper's figure): image -> latent code and noise maps, a mirror image of G.

Every convolution of G has a counterpart whose feature map has the same size, so that equation 11 can compare them:

    L_z = |z' - z|^2 + sum_i |G_i(n, z, noise) - R_i(I_out)|

Means and standard deviations of all feature maps are concatenated and go through an MLP as deep and wide as G's mapping
network to give z'. The noise maps come from 1x1 heads on the matching feature maps.

Not in the paper: a second MLP gives an offset of the style, w = M(z') + offset. What a picture leaves open V should
answer with the mean of what is possible. That lies between styles, where no code leads: M's input has unit length.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from garfast.errors import ArgumentError
from garfast.networks.generator import Generator, GeneratorConfig, on_sphere
from garfast.networks.layers import EqualConv2d, EqualLinear


class Inversion(NamedTuple):
    """What :class:`Inverter` returns."""

    z: Tensor  # [B, z_dim]
    offset: Tensor  # [B, style_dim] to add to the style of z; 0 until a training of the inverter finds it
    noise: list[Tensor]  # one map [B, 1, r, r] per convolution of G, coarse to fine, zero mean and unit variance
    features: list[Tensor]  # R_i, one per convolution of G and of its shape, coarse to fine


def style_of(generator: Generator, z: Tensor, offset: Tensor, params: Tensor | None = None) -> Tensor:
    """What V answers with z [B, z_dim] and offset [B, style_dim], as a style [B, style_dim]; ``params`` as for M."""
    return generator.mapping(on_sphere(z), params) + offset


class Inverter(nn.Module):
    """V(image), the mirror image of a Generator.

    Attributes:
        statistics_mean, statistics_scale: [N] what is taken from the statistics before the MLPs, and what the rest is
            multiplied with; see :meth:`standardise`. Buffers.

    Args:
        config: the Generator's configuration.
        impl: backend of the operators.
    """

    statistics_mean: Tensor
    statistics_scale: Tensor

    def __init__(self, config: GeneratorConfig, *, impl: str = "auto") -> None:
        super().__init__()
        self.config = config
        resolutions = config.resolutions[::-1]
        self.from_rgb = EqualConv2d(3, config.channels(config.size), 1, impl=impl)
        self.layers = nn.ModuleList()
        self.downs = nn.ModuleList()
        counts = []
        for r, after in itertools.zip_longest(resolutions, resolutions[1:]):
            width = config.channels(r)
            layers_here = 1 if r == resolutions[-1] else 2
            for _ in range(layers_here):
                self.layers.append(EqualConv2d(width, width, 3, impl=impl))
                counts.append(width)
            if after is not None:
                self.downs.append(EqualConv2d(width, config.channels(after), 3, down=2, impl=impl))
        self.noise_heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in counts)
        count = 2 * sum(counts)
        self.register_buffer("statistics_mean", torch.zeros(count))
        self.register_buffer("statistics_scale", torch.ones(count))
        self.mlp = _mlp(count, [config.style_dim] * (config.mapping_layers - 1), config.z_dim)
        self.offset = _mlp(count, [2 * config.style_dim] * 2, config.style_dim, silent=True)

    def forward(self, image: Tensor) -> Inversion:
        """image [B, 3, size, size], RGB in -1..1.

        Raises:
            ArgumentError: the image has another size.
        """
        features = self.features(image)
        z, offset = self.answer(self.statistics(features))
        noise = [_standardised(head(f)) for head, f in zip(self.noise_heads, features[::-1], strict=True)]
        return Inversion(z, offset, noise[::-1], features)

    def features(self, image: Tensor) -> list[Tensor]:
        """R_i of an image, coarse to fine; arguments and errors as for the whole."""
        size = self.config.size
        if image.dim() != 4 or list(image.shape[1:]) != [3, size, size]:
            raise ArgumentError(f"Inverter: image must have shape [B, 3, {size}, {size}], not {list(image.shape)}")
        x = self.from_rgb(image)
        layers = iter(self.layers)
        features = []
        for down in [*self.downs, None]:
            for _ in range(1 if down is None else 2):
                x = next(layers)(x)
                features.append(x)
            if down is not None:
                x = down(x)
        return features[::-1]

    def statistics(self, features: list[Tensor]) -> Tensor:
        """Means and standard deviations [B, N], float32, of feature maps, the finest's first."""
        return torch.cat([s for f in features[::-1] for s in _statistics(f)], 1)

    def answer(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Codes [B, z_dim] and offsets of their styles [B, style_dim] from statistics [B, N]."""
        x = (statistics - self.statistics_mean) * self.statistics_scale
        return self.mlp(x), self.offset(x)

    @torch.no_grad()
    def standardise(self, statistics: Tensor) -> None:
        """Start the MLPs anew, on inputs that are standardised by these statistics [K, N] of typical pictures.

        As they are, some statistics are a hundred times as large as others, and MLPs learn from little but these.
        """
        self.statistics_mean.copy_(statistics.mean(0))
        deviation = statistics.std(0)
        # What hardly varies in these pictures may in others, and must not drown the rest then.
        self.statistics_scale.copy_(1 / deviation.clamp_min(0.01 * float(deviation.median()) + 1e-8))
        fresh = Inverter(self.config)
        self.mlp.load_state_dict(fresh.mlp.state_dict())
        self.offset.load_state_dict(fresh.offset.state_dict())


def _mlp(width: int, hidden: list[int], out: int, *, silent: bool = False) -> nn.Sequential:
    """Leaky ReLU layers and a linear one; ``silent`` ones say 0 until they are trained."""
    widths = [width, *hidden]
    layers = [EqualLinear(a, b, activation="lrelu") for a, b in itertools.pairwise(widths)]
    last = EqualLinear(widths[-1], out)
    if silent:
        nn.init.zeros_(last.weight)
    return nn.Sequential(*layers, last)


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [B, C] over the pixels of [B, C, H, W]."""
    flat = features.flatten(2).float()
    mean = flat.mean(2)
    # Two passes over the data in batched products: several times faster than `std` and its backward on a CPU.
    variance = (flat.square().mean(2) - mean.square()).clamp_min(0)
    return mean, (variance + 1e-8).sqrt()


def _standardised(noise: Tensor) -> Tensor:
    """Zero mean and unit variance per map: what G saw in training."""
    noise = noise.float()
    return (noise - noise.mean([2, 3], keepdim=True)) * torch.rsqrt(noise.var([2, 3], keepdim=True) + 1e-8)
