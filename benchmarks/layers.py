"""The styled convolutions of a 256x256 config-F generator, and what the operator benchmarks share.

Environment:
    GARFAST_BENCH_DEVICE   cpu or cuda; cuda where there is one
    GARFAST_BENCH_DTYPE    float32, float16 or bfloat16
    GARFAST_BENCH_LAYERS   all, or few: those up to 64x64; few on the CPU
    GARFAST_BENCH_COMPILE  1: the reference under torch.compile as well
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

DEVICE = os.environ.get("GARFAST_BENCH_DEVICE", "cuda" if torch.cuda.is_available() else "cpu")
DTYPE = getattr(torch, os.environ.get("GARFAST_BENCH_DTYPE", "float32"))
FEW = os.environ.get("GARFAST_BENCH_LAYERS", "few" if DEVICE == "cpu" else "all") == "few"
COMPILE = os.environ.get("GARFAST_BENCH_COMPILE", "0") == "1"
BATCHES = (1, 4, 8)


class Layer(NamedTuple):
    """One 3x3 convolution: its result is [B, outputs, size, size]."""

    size: int
    up: int
    inputs: int
    outputs: int

    @property
    def name(self) -> str:
        return f"{self.size}-{'up' if self.up == 2 else 'conv'}-{self.inputs}-{self.outputs}"

    def flops(self, batch: int) -> float:
        """Floating point operations of the convolution alone."""
        return 2.0 * 9 * self.inputs * self.outputs * (self.size // self.up) ** 2 * batch


LAYERS = (
    Layer(4, 1, 512, 512),
    Layer(8, 2, 512, 512),
    Layer(8, 1, 512, 512),
    Layer(16, 2, 512, 512),
    Layer(16, 1, 512, 512),
    Layer(32, 2, 512, 512),
    Layer(32, 1, 512, 512),
    Layer(64, 2, 512, 512),
    Layer(64, 1, 512, 512),
    Layer(128, 2, 512, 256),
    Layer(128, 1, 256, 256),
    Layer(256, 2, 256, 128),
    Layer(256, 1, 128, 128),
)
CHOSEN = tuple(layer for layer in LAYERS if layer.size <= 64) if FEW else LAYERS


def styled_arguments(layer: Layer, batch: int, requires_grad: Sequence[str] = ()) -> dict[str, Tensor]:
    """Random tensor arguments of modulated_conv2d, by name; gradients for the names in ``requires_grad``."""
    generator = torch.Generator().manual_seed(0)
    source, size = layer.size // layer.up, layer.size

    def random(*shape: int, dtype: torch.dtype = DTYPE) -> Tensor:
        return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

    arguments = {
        "x": random(batch, layer.inputs, source, source),
        "weight": random(layer.outputs, layer.inputs, 3, 3),
        "style": random(batch, layer.inputs, dtype=torch.float32),
        "scale_map": random(batch, 1, size, size),
        "shift_map": random(batch, 1, size, size),
        "noise": random(batch, 1, size, size),
        "noise_strength": random(1, dtype=torch.float32).reshape(()),
        "bias": random(layer.outputs, dtype=torch.float32),
    }
    for name in requires_grad:
        arguments[name].requires_grad_()
    return arguments


def seconds(function: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call, on the GPU until it has finished."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def side_by_side(benchmark: Any, mine: Callable[[], Any], other: Callable[[], Any], rounds: int) -> None:
    """Benchmark ``mine``; time ``other`` between its rounds and record how many times longer it takes.

    A shared machine drifts: taken in turn both meet the same drift, and the ratio of their medians stands.
    """
    mine()
    other()
    others: list[float] = []

    def between() -> None:
        others.append(seconds(other))

    benchmark.pedantic(lambda: seconds(mine), setup=between, rounds=rounds)
    times = benchmark.stats.stats.data
    benchmark.extra_info["reference_ms"] = 1e3 * statistics.median(others)
    benchmark.extra_info["median_ms"] = 1e3 * statistics.median(times)
    benchmark.extra_info["speed_up"] = statistics.median(others) / statistics.median(times)
    benchmark.extra_info["device"] = (
        torch.cuda.get_device_name() if DEVICE == "cuda" else f"{torch.get_num_threads()} threads"
    )


def peak_memory(function: Callable[[], Any]) -> int | None:
    """Bytes that one call takes on the GPU beyond what was there before; None on the CPU."""
    if DEVICE != "cuda":
        return None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
