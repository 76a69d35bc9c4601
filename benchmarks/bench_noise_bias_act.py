"""noise_bias_act with every term beside the reference, and beside a copy of the same tensor.

extra_info: speed_up over the reference; copy_fraction: the time of x.clone() over ours, 1 being as fast as
reading and writing allows. Both allocate their result, which on a CPU costs as much as the copying itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks import layers
from garfast.ops import noise_bias_act

SIZES = ((512, 16), (512, 32), (512, 64), (256, 128), (128, 256))
TERMS = ("scale_map", "shift_map", "noise", "noise_strength", "bias")


def arguments(channels: int, size: int, batch: int, last: bool, gradients: bool) -> dict[str, torch.Tensor]:
    a = layers.styled_arguments(layers.Layer(size, channels, channels, 1), batch)
    a = {name: a[name] for name in ("x", *TERMS)}
    a["x"] = a["x"].contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    return {name: value.requires_grad_(gradients) for name, value in a.items()}


def step(a: dict[str, torch.Tensor], impl: str, gradients: bool, way: str = "eager") -> Callable[[], Any]:
    terms = {name: a[name] for name in TERMS}
    run = layers.in_way(lambda: noise_bias_act(a["x"], **terms, impl=impl), way)
    if not gradients:
        return torch.no_grad()(run)
    weights = torch.randn_like(a["x"])
    return lambda: torch.autograd.grad(run(), list(a.values()), weights)


@pytest.mark.parametrize(("channels", "size"), SIZES[:3] if layers.FEW else SIZES)
@pytest.mark.parametrize("batch", layers.BATCHES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("mode", ["forward", "forward+backward"])
@pytest.mark.parametrize("way", layers.WAYS)
def test_noise_bias_act(benchmark: Any, channels: int, size: int, batch: int, layout: str, mode: str, way: str) -> None:
    gradients = mode != "forward"
    a = arguments(channels, size, batch, layout == "channels_last", gradients)
    rounds = max(5, min(50, int(3e8 / a["x"].numel())))
    layers.side_by_side(benchmark, step(a, "auto", gradients), step(a, "reference", gradients, way), rounds)
    if not gradients:
        x = a["x"]
        copy = statistics.median(layers.seconds(x.clone) for _ in range(rounds))
        median = benchmark.extra_info["median_ms"] * 1e-3
        benchmark.extra_info["copy_fraction"] = copy / median
        benchmark.extra_info["gb_per_s"] = 2 * x.numel() * x.element_size() / median * 1e-9
