"""The styled convolutions of a 256x256 config-F generator (channel base 32768, at most 512 channels)."""

from __future__ import annotations

from typing import NamedTuple


class Layer(NamedTuple):
    """One styled 3x3 convolution with its epilogue."""

    resolution: int  # of the output
    in_channels: int
    out_channels: int
    up: int  # 1, or 2: up-sampling by two

    @property
    def name(self) -> str:
        kind = "up" if self.up == 2 else "conv"
        return f"{self.resolution} {kind} {self.in_channels}>{self.out_channels}"

    def flops(self, batch: int) -> float:
        """Multiplications and additions of the convolution."""
        pixels = (self.resolution // self.up) ** 2
        return 2.0 * batch * pixels * self.in_channels * self.out_channels * 9

    def min_bytes(self, batch: int, element_size: int) -> float:
        """What must move at least: input, output, weights once, one noise map and a scale and shift map."""
        out_pixels, in_pixels = self.resolution**2, (self.resolution // self.up) ** 2
        maps = 3 * out_pixels
        images = in_pixels * self.in_channels + out_pixels * self.out_channels + maps
        return float(element_size * (batch * images + 9 * self.in_channels * self.out_channels))


def channels(resolution: int) -> int:
    """Feature channels of config F at a resolution."""
    return min(32768 // resolution, 512)


GENERATOR_256 = [
    Layer(resolution, channels(resolution // up), channels(resolution), up)
    for resolution in (4, 8, 16, 32, 64, 128, 256)
    for up in ((1,) if resolution == 4 else (2, 1))
]
