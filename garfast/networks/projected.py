"""An adversary that looks at a frozen network's feature maps instead of at pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from garfast.networks.layers import EqualConv2d
from garfast.networks.perceptual import PerceptualNet

_GRID = 8


class ProjectedDiscriminator(nn.Module):
    """D on projections: a small network for each feature map says, place by place, how real it looks.

    After "Projected GANs converge faster" (Sauer et al., NeurIPS 2021). The frozen network has already learnt to see,
    so D learns from a small part of the pictures that an adversary of pixels takes, and a step of it is cheaper too.

    Args:
        features: the network whose feature maps D looks at; it stays as it is, and out of D's ``state_dict``.
        size: side of the pictures, pixels, a multiple of 16.
        width: channels of each of the small networks.
        impl: backend of the operators.
    """

    def __init__(self, features: PerceptualNet, size: int, *, width: int = 64, impl: str = "auto") -> None:
        super().__init__()
        # In a tuple, so that its weights do not become D's.
        self._features = (features,)
        with torch.no_grad():
            maps = features.features(torch.zeros(1, 3, size, size, device=next(features.parameters()).device))
        self.heads = nn.ModuleList(_head(m.shape[1], m.shape[-1], width, impl) for m in maps)

    def look(self, image: Tensor) -> list[Tensor]:
        """What D sees of pictures [B, 3, size, size] in -1..1: :meth:`PerceptualNet.features`."""
        return self._features[0].features(image)

    def judge(self, seen: list[Tensor]) -> Tensor:
        """What :meth:`look` gave -> logits [B, P], large where the picture looks real; each belongs to one place."""
        # Of unit variance, as equalised layers expect.
        logits = [head(m * m.shape[1] ** 0.5) for head, m in zip(self.heads, seen, strict=True)]
        return torch.cat([part.flatten(1) for part in logits], 1)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, size, size], RGB in -1..1 -> logits [B, P]."""
        return self.judge(self.look(image))


def _head(channels: int, side: int, width: int, impl: str) -> nn.Sequential:
    layers: list[nn.Module] = [EqualConv2d(channels, width, 1, impl=impl)]
    while side > _GRID:
        layers.append(EqualConv2d(width, width, 3, down=2, impl=impl))
        side //= 2
    return nn.Sequential(*layers, EqualConv2d(width, 1, 3, activation="linear", impl=impl))
