"""F: aligned face -> identity embedding (equation 8), the project's own small network or a user's recogniser."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from garfast.errors import ArgumentError, WeightsFileError
from garfast.networks.blocks import ConvBlock, ResidualBlock
from garfast.networks.weights import fill_network, load_weights


@dataclass(frozen=True)
class IdentityConfig:
    """Everything that defines an IdentityNet's shape.

    Attributes:
        size: side of the pictures that it looks at, pixels, a multiple of 16; others are resized.
        widths: channels at 1/2, 1/4, 1/8 and 1/16 of the resolution.
        depths: residual blocks at each of these.
        embedding: length of the embedding.
    """

    size: int = 64
    widths: tuple[int, ...] = (32, 64, 96, 128)
    depths: tuple[int, ...] = (1, 1, 2, 2)
    embedding: int = 128

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 16:
            raise ArgumentError(f"IdentityConfig: size must be a positive multiple of 16, not {self.size}")
        if len(self.widths) != 4 or len(self.depths) != 4:
            raise ArgumentError("IdentityConfig: widths and depths must have four entries")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IdentityConfig:
        return cls(
            size=int(data["size"]),
            widths=tuple(int(w) for w in data["widths"]),
            depths=tuple(int(d) for d in data["depths"]),
            embedding=int(data["embedding"]),
        )


class FaceBackbone(nn.Module):
    """Residual stages at 1/2, 1/4, ... of the resolution, on 2x2 pixels as channels.

    Args:
        widths: channels of each stage.
        depths: residual blocks of each stage.
    """

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        entries = [ConvBlock(12, widths[0])] + [ConvBlock(a, b, 3, 2) for a, b in itertools.pairwise(widths)]
        self.stages = nn.ModuleList(
            nn.Sequential(entry, *(ResidualBlock(width) for _ in range(depth)))
            for entry, width, depth in zip(entries, widths, depths, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """image [B, 3, H, W] in -1..1, sides multiples of 2 ** stages -> one feature map per stage, fine to coarse."""
        x = functional.pixel_unshuffle(image, 2)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class IdentityNet(nn.Module):
    """F(image). What it calls the same person keeps shape, skin, hair and beard in any pose, expression and light."""

    def __init__(self, config: IdentityConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IdentityConfig()
        width = config.widths[-1]
        self.backbone = FaceBackbone(config.widths, config.depths)
        # A weight for each place: on aligned faces the parts are where they are.
        self.gather = nn.Conv2d(width, width, config.size // 16, groups=width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.project = nn.Linear(width, config.embedding)

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps at 1/2, 1/4, 1/8 and 1/16 of ``config.size``, of :meth:`forward`'s input."""
        return self.backbone(fit_size(image, self.config.size))

    def project_features(self, last: Tensor) -> Tensor:
        """The last feature map -> embeddings [B, E] before they are brought to unit length."""
        return self.project(self.norm(self.gather(last).flatten(1)))

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, S, S] on the alignment template, RGB in -1..1 -> [B, E] of unit length."""
        return functional.normalize(self.project_features(self.features(image)[-1]).float(), dim=1, eps=1e-6)


class ForeignIdentity(nn.Module):
    """A user's own recognition network as F, from a file of ``torch.jit.save`` or ``torch.export.save``.

    Such a file is a program: load those that you trust.

    Args:
        path: the file, ending in .pt2 if it was exported; the network takes [B, 3, h, w] and returns [B, E].
        size: height and width that the network wants, pixels.
        crop: left, top, right and bottom of what it sees of the aligned picture, fractions of its side; the default
            frames the face about as the templates of common recognisers do.
        mean, std: per channel, of pictures in 0..1: what goes in is ``(picture - mean) / std``.
        bgr: the network wants blue first.

    Raises:
        WeightsFileError: the file is missing or holds no network.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: tuple[int, int] = (112, 112),
        crop: tuple[float, float, float, float] = (0.12, 0.08, 0.88, 0.84),
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
        bgr: bool = False,
    ) -> None:
        super().__init__()
        left, top, right, bottom = crop
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ArgumentError(f"ForeignIdentity: crop must be left < right and top < bottom within 0..1, not {crop}")
        if not Path(path).is_file():
            raise WeightsFileError(f"there is no recognition network {path}: check the path")
        try:
            if Path(path).suffix == ".pt2":
                self.network = torch.export.load(path).module()
            else:
                self.network = torch.jit.load(str(path), map_location="cpu").eval()
        except Exception as error:  # the readers promise no types, and the file is a stranger's
            raise WeightsFileError(
                f"{path} holds no network: write it with torch.export.save (as .pt2) or torch.jit.save"
            ) from error
        self.size, self.crop, self.bgr = size, crop, bgr
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    mean: Tensor
    std: Tensor

    def train(self, mode: bool = True) -> ForeignIdentity:
        """Nothing: the network judges, as it was written; exported ones could not be switched anyway."""
        return self

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, S, S] on the alignment template, RGB in -1..1 -> [B, E] of unit length."""
        side_y, side_x = image.shape[-2:]
        left, top, right, bottom = self.crop
        x = image[..., round(top * side_y) : round(bottom * side_y), round(left * side_x) : round(right * side_x)]
        x = functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False, antialias=True)
        x = ((x + 1) / 2 - self.mean) / self.std
        return functional.normalize(self.network(x.flip(1) if self.bgr else x).float(), dim=1, eps=1e-6)


def load_identity(path: str | os.PathLike[str], **options: Any) -> nn.Module:
    """F from a file: ``.safetensors`` that ``garfast train identity`` wrote, else a user's network.

    Args:
        path: the file.
        options: for :class:`ForeignIdentity`.

    Raises:
        WeightsFileError: the file is missing, damaged or of another kind.
    """
    if Path(path).suffix != ".safetensors":
        return ForeignIdentity(path, **options)
    config, state = load_weights(path, kind="identity")
    network = IdentityNet(IdentityConfig.from_dict(config))
    fill_network(network, state, path)
    return network


def fit_size(image: Tensor, size: int) -> Tensor:
    """Resize square pictures [B, 3, S, S] to ``size``, without aliasing where they shrink."""
    if image.dim() != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3]:
        raise ArgumentError(f"pictures must have shape [B, 3, S, S], not {list(image.shape)}")
    side = image.shape[-1]
    if side == size:
        return image
    if side % size == 0:
        return functional.avg_pool2d(image, side // size)
    return functional.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
