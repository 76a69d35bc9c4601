"""modulated_conv2d with its whole epilogue beside the reference: a grouped convolution and element-wise operations.

extra_info: speed_up over the reference, gflops of the convolution, peak_bytes on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks import layers
from garfast.ops import modulated_conv2d

# What gets a gradient: everything in training, all but the network's parameters in a fit.
GRADIENTS = {
    "forward": (),
    "train": ("x", "weight", "style", "scale_map", "shift_map", "noise_strength", "bias"),
    "fit": ("x", "style", "scale_map", "shift_map", "noise"),
}


def step(layer: layers.Layer, batch: int, mode: str, impl: str, way: str = "eager") -> Callable[[], Any]:
    """One forward pass, or one with its backward."""
    arguments = layers.styled_arguments(layer, batch, GRADIENTS[mode])
    wanted = [arguments[name] for name in GRADIENTS[mode]]

    def forward() -> Any:
        rest = dict(arguments)
        first = (rest.pop("x"), rest.pop("weight"), rest.pop("style"))
        return modulated_conv2d(*first, **rest, up=layer.up, impl=impl)

    run = layers.in_way(forward, way)
    if not wanted:
        return torch.no_grad()(run)
    weights = torch.randn(batch, layer.out_channels, layer.resolution, layer.resolution).to(layers.DEVICE, layers.DTYPE)
    return lambda: torch.autograd.grad(run(), wanted, weights)


@pytest.mark.parametrize("layer", layers.CHOSEN, ids=lambda layer: layer.name.replace(" ", "-"))
@pytest.mark.parametrize("batch", layers.BATCHES)
@pytest.mark.parametrize("mode", list(GRADIENTS))
@pytest.mark.parametrize("way", layers.WAYS)
def test_modulated_conv2d(benchmark: Any, layer: layers.Layer, batch: int, mode: str, way: str) -> None:
    mine, reference = step(layer, batch, mode, "auto"), step(layer, batch, mode, "reference", way)
    rounds = max(3, min(30, int(2e10 / layer.flops(batch))))
    layers.side_by_side(benchmark, mine, reference, rounds)
    times = 1 if mode == "forward" else 2 if mode == "fit" else 3
    median = benchmark.extra_info["median_ms"] * 1e-3
    benchmark.extra_info["gflops"] = times * layer.flops(batch) / median * 1e-9
    benchmark.extra_info["peak_bytes"] = layers.peak_memory(mine)
    benchmark.extra_info["reference_peak_bytes"] = layers.peak_memory(reference)
