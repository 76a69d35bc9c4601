"""The adversary D: StyleGAN2's residual discriminator with minibatch standard deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from garfast.errors import ArgumentError
from garfast.networks.layers import EqualConv2d, EqualLinear


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Everything that defines a Discriminator's shape."""

    size: int = 256  # input resolution, a power of two from 8 to 1024
    channel_base: int = 32768  # feature channels at resolution r: min(channel_base / r, channel_max)
    channel_max: int = 512
    group_size: int = 4  # images that share one minibatch standard deviation; the batch is divided evenly

    def __post_init__(self) -> None:
        if self.size < 8 or self.size & (self.size - 1) or self.size > 1024:
            raise ArgumentError(f"DiscriminatorConfig: size must be a power of two from 8 to 1024, not {self.size}")

    def channels(self, resolution: int) -> int:
        """Feature channels at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)


class ResidualBlock(nn.Module):
    """Two convolutions that halve the resolution, beside a 1x1 skip."""

    def __init__(self, in_channels: int, out_channels: int, impl: str) -> None:
        super().__init__()
        # Each branch has gain sqrt(1/2), so that their sum keeps unit variance; the leaky ReLU's own sqrt 2 cancels it.
        self.first = EqualConv2d(in_channels, in_channels, 3, impl=impl)
        self.second = EqualConv2d(in_channels, out_channels, 3, down=2, gain=1.0, impl=impl)
        self.skip = EqualConv2d(
            in_channels, out_channels, 1, down=2, bias=False, activation="linear", gain=math.sqrt(0.5), impl=impl
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, H, W] -> [B, out, H / 2, W / 2]."""
        return self.skip(x) + self.second(self.first(x))


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Append one channel: the standard deviation over groups of images, averaged over channels and pixels.

    Args:
        x: [B, C, H, W]; groups are ``group_size`` images, or the largest divisor of B below it.

    Returns:
        [B, C + 1, H, W].
    """
    batch, _, height, width = x.shape
    group = max((g for g in range(1, min(group_size, batch) + 1) if batch % g == 0), default=1)
    grouped = x.float().reshape(group, -1, *x.shape[1:])
    deviation = torch.sqrt(grouped.var(0, unbiased=False) + 1e-8).mean([1, 2, 3])
    return torch.cat([x, deviation.repeat(group)[:, None, None, None].expand(-1, 1, height, width).to(x.dtype)], 1)


class Discriminator(nn.Module):
    """D(image): one real number per image, large for real ones.

    :meth:`look` and :meth:`judge` are the two halves of :meth:`forward`, as in :class:`ProjectedDiscriminator`; this
    one looks at the pixels.

    Args:
        config: its shape.
        impl: backend of the operators.
    """

    def __init__(self, config: DiscriminatorConfig | None = None, *, impl: str = "auto") -> None:
        super().__init__()
        self.config = config = config or DiscriminatorConfig()
        resolutions = [1 << k for k in range(config.size.bit_length() - 1, 2, -1)]
        self.from_rgb = EqualConv2d(3, config.channels(config.size), 1, impl=impl)
        self.blocks = nn.Sequential(
            *(ResidualBlock(config.channels(r), config.channels(r // 2), impl) for r in resolutions)
        )
        last = config.channels(4)
        self.conv = EqualConv2d(last + 1, last, 3, impl=impl)
        self.dense = EqualLinear(last * 16, last, activation="lrelu")
        self.out = EqualLinear(last, 1)

    def look(self, image: Tensor) -> list[Tensor]:
        """What D sees of pictures [B, 3, size, size] in -1..1: they themselves.

        Raises:
            ArgumentError: the image has another size.
        """
        size = self.config.size
        if image.dim() != 4 or list(image.shape[1:]) != [3, size, size]:
            raise ArgumentError(f"Discriminator: image must have shape [B, 3, {size}, {size}], not {list(image.shape)}")
        return [image]

    def judge(self, seen: list[Tensor]) -> Tensor:
        """What :meth:`look` gave -> logits [B, 1]."""
        x = self.blocks(self.from_rgb(seen[0]))
        x = self.conv(minibatch_stddev(x, self.config.group_size))
        return self.out(self.dense(x.flatten(1)))

    def forward(self, image: Tensor) -> Tensor:
        """image [B, 3, size, size], RGB in -1..1 -> logits [B].

        Raises:
            ArgumentError: the image has another size.
        """
        return self.judge(self.look(image))[:, 0]
