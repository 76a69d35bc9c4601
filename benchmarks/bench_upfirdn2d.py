"""upfirdn2d beside the reference (a depth-wise convolution of the padded image): blur, up- and down-sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks import layers
from garfast.ops import upfirdn2d

CASES = {
    "blur": {"padding": (1, 2, 1, 2)},
    "up": {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0},
    "down": {"down": 2, "padding": 1},
}
SIZES = ((3, 128), (512, 32), (256, 128), (128, 256))


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize(("channels", "size"), SIZES[:2] if layers.FEW else SIZES)
@pytest.mark.parametrize("batch", layers.BATCHES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("mode", ["forward", "forward+backward"])
@pytest.mark.parametrize("way", layers.WAYS)
def test_upfirdn2d(
    benchmark: Any, case: str, channels: int, size: int, batch: int, layout: torch.memory_format, mode: str, way: str
) -> None:
    gradients = mode != "forward"
    x = torch.randn(batch, channels, size, size).to(layers.DEVICE, layers.DTYPE).to(memory_format=layout)
    x.requires_grad_(gradients)
    taps = torch.tensor([1.0, 3, 3, 1], device=layers.DEVICE) / 8

    def step(impl: str, way: str = "eager") -> Callable[[], Any]:
        run = layers.in_way(lambda: upfirdn2d(x, taps, **CASES[case], impl=impl), way)
        return (lambda: torch.autograd.grad(run().sum(), x)) if gradients else run

    rounds = max(5, min(30, int(1e8 / x.numel())))
    layers.side_by_side(benchmark, step("auto"), step("reference", way), rounds)
