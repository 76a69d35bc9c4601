"""What the operator benchmarks share: arguments of a styled convolution, timing side by side, memory.

Environment:
    GARFAST_BENCH_DEVICE   cpu or cuda; cuda where there is one
    GARFAST_BENCH_DTYPE    float32, float16 or bfloat16
    GARFAST_BENCH_LAYERS   all, or few: those up to 64x64; few on the CPU
    GARFAST_BENCH_COMPILE  1: the reference under torch.compile as well, which takes long to start
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from garfast.bench import cases
from garfast.bench.layers import GENERATOR_256, Layer
from garfast.bench.timing import BRIEF, as_in_networks, compiled, warm_seconds

DEVICE = os.environ.get("GARFAST_BENCH_DEVICE", "cuda" if torch.cuda.is_available() else "cpu")
DTYPE = getattr(torch, os.environ.get("GARFAST_BENCH_DTYPE", "float32"))
FEW = os.environ.get("GARFAST_BENCH_LAYERS", "few" if DEVICE == "cpu" else "all") == "few"
COMPILE = os.environ.get("GARFAST_BENCH_COMPILE", "0") == "1"
WAYS = ("eager", "compiled") if COMPILE else ("eager",)
"""How the reference runs."""
BATCHES = (1, 4, 8)
CHOSEN = tuple(layer for layer in GENERATOR_256 if layer.resolution <= 64 or not FEW)


def styled_arguments(layer: Layer, batch: int, requires_grad: Sequence[str] = ()) -> dict[str, Tensor]:
    """Random tensor arguments of modulated_conv2d, by name; gradients for the names in ``requires_grad``."""
    arguments = cases.styled_arguments(layer, batch, DEVICE, DTYPE)
    for name in requires_grad:
        arguments[name].requires_grad_()
    return arguments


def in_way(function: Callable[..., Any], way: str, *, fullgraph: bool = True) -> Callable[..., Any]:
    """``function`` as it is, or what torch.compile makes of it."""
    return compiled(function, fullgraph=fullgraph) if way == "compiled" else function


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

    A shared machine drifts: taken in turn both meet the same drift, and the ratio of their medians stands. On a CPU
    brief calls find the caches as one of their own left them, see garfast.bench.timing.measure.
    """
    other = as_in_networks(other)
    mine()
    other()
    on_cpu = DEVICE != "cuda"
    brief = on_cpu and seconds(mine) < BRIEF
    times: list[float] = []
    others: list[float] = []

    def between() -> None:
        others.append(warm_seconds(lambda: seconds(other)) if on_cpu else seconds(other))
        if brief:
            mine()

    # Our own times of it, too: there are no others where pytest-benchmark is switched off (--benchmark-disable).
    benchmark.pedantic(lambda: times.append(seconds(mine)), setup=between, rounds=rounds)
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
