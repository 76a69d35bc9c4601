"""Small renderers, random and with known properties."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from garfast.networks.generator import Generator, GeneratorConfig, GeneratorOutput
from garfast.networks.identity import IdentityConfig, IdentityNet
from garfast.networks.inverter import Inverter
from garfast.networks.normal_estimator import NormalEstimate, NormalEstimator, NormalEstimatorConfig
from garfast.networks.perceptual import PerceptualConfig, PerceptualNet
from garfast.networks.renderer import Renderer

CONFIG = GeneratorConfig(
    size=32, z_dim=8, style_dim=16, mapping_layers=2, channel_base=256, channel_max=8, nim_channels=4
)


def random_renderer(seed: int = 0) -> Renderer:
    """All networks, small and untrained, 32 pixels."""
    torch.manual_seed(seed)
    small = {"widths": (4, 4, 8, 8), "depths": (1, 1, 1, 1)}
    renderer = Renderer(
        Generator(CONFIG),
        Inverter(CONFIG),
        NormalEstimator(NormalEstimatorConfig(widths=(4, 8), depth=1)),
        IdentityNet(IdentityConfig(size=32, embedding=8, **small)),
        PerceptualNet(PerceptualConfig(size=32, **small)),
    )
    for network in renderer.networks().values():
        network.eval().requires_grad_(False)
    return renderer


class Drawer(Generator):
    """Draws the normals themselves at half their length, brighter or darker with w's first entry by ``looks``."""

    def __init__(self, looks: float = 0.0) -> None:
        super().__init__(CONFIG)
        self.looks = looks
        self.requires_grad_(False)

    def forward(self, maps, z=None, *, w=None, noise=None, **_) -> GeneratorOutput:  # type: ignore[override]
        return GeneratorOutput(maps[-1] / 2 * (1 + self.looks * (9 * w[:, 0, 0]).tanh()[:, None, None, None]), w, [])


class Turned(nn.Module):
    """Takes a picture for normals, turned by some degrees about the line of sight."""

    def __init__(self, degrees: float = 0.0) -> None:
        super().__init__()
        angle = torch.deg2rad(torch.tensor(degrees))
        cos, sin = angle.cos(), angle.sin()
        self.register_buffer("matrix", torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]))

    def forward(self, image: Tensor) -> NormalEstimate:
        turned = torch.einsum("ij,bjhw->bihw", self.matrix, image)
        return NormalEstimate(nn.functional.normalize(turned, dim=1), image[:, :1])
