"""How different two pictures look: distances of channel-normalised feature maps.

After "The unreasonable effectiveness of deep features as a perceptual metric" (CVPR 2018), with the project's own
backbone or a user's VGG16.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.errors import ArgumentError, WeightsFileError
from garfast.networks.identity import FaceBackbone
from garfast.networks.weights import fill_network, load_weights

_VGG_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_EPS = 1e-8


@dataclass(frozen=True)
class PerceptualConfig:
    """Everything that defines a PerceptualNet's shape.

    Attributes:
        backbone: 'faces', the project's own, or 'vgg16'.
        size: side of the pictures, pixels, that the own backbone was trained with. Larger ones are compared at their
            size, at half of it and so on down to this.
        widths, depths: of the own backbone's stages.
    """

    backbone: str = "faces"
    size: int = 64
    widths: tuple[int, ...] = (32, 64, 96, 128)
    depths: tuple[int, ...] = (1, 1, 2, 2)

    def __post_init__(self) -> None:
        if self.backbone not in ("faces", "vgg16"):
            raise ArgumentError(f"PerceptualConfig: backbone must be 'faces' or 'vgg16', not {self.backbone!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PerceptualConfig:
        return cls(
            backbone=str(data["backbone"]),
            size=int(data["size"]),
            widths=tuple(int(w) for w in data["widths"]),
            depths=tuple(int(d) for d in data["depths"]),
        )


class Vgg16Features(nn.Module):
    """VGG16's convolutions up to the last activation of each of its five stages; pictures in -1..1."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Named by torchvision's positions, so that its weights fit as they are.
        self.features = nn.ModuleDict()
        self.plan: list[list[str]] = []
        position, before = 0, 3
        for stage in _VGG_WIDTHS:
            names = []
            for width in stage:
                names.append(str(position))
                self.features[str(position)] = nn.Conv2d(before, width, 3, padding=1)
                position, before = position + 2, width
            self.plan.append(names)
            position += 1
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        self.register_buffer("shift", (2 * mean - 1)[:, None, None], persistent=False)
        self.register_buffer("scale", (2 * std)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """image [B, 3, H, W], sides at least 16 -> five feature maps, fine to coarse."""
        x = (image - self.shift) / self.scale
        maps = []
        for k, names in enumerate(self.plan):
            x = functional.max_pool2d(x, 2) if k else x
            for name in names:
                x = functional.relu(self.features[name](x))
            maps.append(x)
        return maps


class PerceptualNet(nn.Module):
    """A distance of pictures, differentiable in both.

    Attributes:
        channel_weights: one vector per feature map, how much each channel counts; buffers, 1 unless LPIPS gives them.
    """

    def __init__(self, config: PerceptualConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PerceptualConfig()
        self.backbone: nn.Module
        if config.backbone == "faces":
            self.backbone, widths = FaceBackbone(config.widths, config.depths), config.widths
        else:
            self.backbone, widths = Vgg16Features(), tuple(stage[-1] for stage in _VGG_WIDTHS)
        for k, width in enumerate(widths):
            self.register_buffer(f"channel_weights_{k}", torch.ones(width))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PerceptualNet:
        """The network, untrained, from the configuration that its weight file has."""
        return cls(PerceptualConfig.from_dict(config))

    @property
    def channel_weights(self) -> list[Tensor]:
        return [self.get_buffer(f"channel_weights_{k}") for k in range(len(self._buffers))]

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of unit length over channels.

        Args:
            image: [B, 3, H, W] RGB in -1..1, sides multiples of 16.

        Returns:
            [B, C, h, w] each: the backbone's stages, fine to coarse; with the own backbone, the same again for every
            halving of the picture down to ``config.size``.

        Raises:
            ArgumentError: a side is no multiple of 16.
        """
        if image.dim() != 4 or image.shape[1] != 3 or image.shape[2] % 16 or image.shape[3] % 16:
            raise ArgumentError(
                f"PerceptualNet: image must have shape [B, 3, H, W], sides multiples of 16, not {list(image.shape)}"
            )
        maps = list(self.backbone(image))
        if self.config.backbone == "faces":
            side = min(image.shape[-2:]) // 2
            while side >= self.config.size and side % 16 == 0:
                image = functional.avg_pool2d(image, 2)
                maps += self.backbone(image)
                side //= 2
        return [m.float() * torch.rsqrt(m.float().square().sum(1, keepdim=True) + _EPS) for m in maps]

    def compare(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """[B] distances of what :meth:`features` gave: weighted squared differences summed over channels, averaged over
        pixels and summed over feature maps; averaged over the halvings."""
        weights = self.channel_weights
        total = torch.stack(
            [
                ((x - y).square() * weights[k % len(weights)][:, None, None]).sum(1).mean((1, 2))
                for k, (x, y) in enumerate(zip(a, b, strict=True))
            ]
        ).sum(0)
        return total * (len(weights) / len(a))

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """[B] distances of pictures [B, 3, H, W]; 0 for equal ones."""
        return self.compare(self.features(a), self.features(b))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.distance(a, b)


def load_perceptual(path: str | os.PathLike[str], *, lpips: str | os.PathLike[str] | None = None) -> PerceptualNet:
    """A PerceptualNet from a file.

    Args:
        path: ``.safetensors`` that ``garfast train identity`` wrote; or a state dictionary that ``torch.save`` wrote:
            torchvision's VGG16, or the whole of LPIPS with VGG16. Only tensors are read: the file cannot run code.
        lpips: state dictionary of LPIPS' linear layers, which weigh the channels of torchvision's VGG16.

    Raises:
        WeightsFileError: a file is missing, damaged or of another kind.
    """
    if Path(path).suffix == ".safetensors":
        config, state = load_weights(path, kind="perceptual")
        network = PerceptualNet.from_config(config)
        fill_network(network, state, path)
        return network
    network = PerceptualNet(PerceptualConfig(backbone="vgg16"))
    found = _read_state(path)
    own = network.state_dict()
    for name in own:
        if name.startswith("backbone."):
            own[name] = _find(found, _vgg_names(name.removeprefix("backbone.")), own[name], path)
    linear = found if lpips is None else _read_state(lpips)
    if lpips is not None or any(name.endswith("lin0.model.1.weight") for name in linear):
        for k in range(len(_VGG_WIDTHS)):
            name = f"channel_weights_{k}"
            source = _find(linear, [f"lin{k}.model.1.weight", f"lins.{k}.model.1.weight"], own[name], lpips or path)
            own[name] = source
    network.load_state_dict(own)
    return network.eval()


def _vgg_names(name: str) -> list[str]:
    """What torchvision ('features.5.bias') and LPIPS ('net.slice2.5.bias') call a tensor."""
    _, position, kind = name.split(".")
    return [name, *(f"net.slice{k}.{position}.{kind}" for k in range(1, 6))]


def _find(state: Mapping[str, Tensor], names: list[str], like: Tensor, path: str | os.PathLike[str]) -> Tensor:
    for name in names:
        value = state.get(name)
        if value is not None:
            if value.numel() == like.numel() and value.squeeze().shape == like.squeeze().shape:
                return value.reshape(like.shape).to(like)
            raise WeightsFileError(
                f"{path} does not fit VGG16: {name} has shape {list(value.shape)}, expected {list(like.shape)}"
            )
    raise WeightsFileError(
        f"{path} lacks {names[0]!r}: give the state dictionary of torchvision's VGG16 or of LPIPS with VGG16"
    )


def _read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise WeightsFileError(f"there is no weight file {path}: check the path")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsFileError(f"{path} holds no tensors alone: save a state_dict() with torch.save") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsFileError(f"{path} is no state dictionary: save a state_dict() with torch.save")
    return dict(state)
