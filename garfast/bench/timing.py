"""Timing that survives a noisy machine: candidates take turns in one process, and medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch

from garfast.ops._dispatch import references_in_own_dtype
from garfast.ops._timing import timer

Function = Callable[[], object]
T = TypeVar("T")
BRIEF = 0.02  # seconds, see measure()


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate."""

    median: float
    p20: float
    p80: float
    runs: int
    peak_bytes: int | None = None  # allocated above what was there before; CUDA only


def compiled(function: Callable[..., T], *, fullgraph: bool = False) -> Callable[..., T]:
    """What torch.compile makes of a function, with nothing left of earlier compilations.

    Functions that one piece of code makes share their compilations, and after eight of them the next would run as it
    is, unnoticed.
    """
    torch.compiler.reset()
    result: Callable[..., T] = torch.compile(function, fullgraph=fullgraph)
    return result


def as_in_networks(reference: Callable[[], T]) -> Callable[[], T]:
    """A call of reference operators that computes 16-bit formats in these, see `references_in_own_dtype`."""

    def run() -> T:
        with references_in_own_dtype():
            return reference()

    return run


def settle_allocator() -> None:
    """Let the C library keep what is freed, as it does in every process that has run a network.

    glibc gives free memory at the end of its heap back to the system beyond a limit that follows the largest block ever
    freed. Where all tensors were small, each call pays the page faults of results that the call before gave back:
    twice the time of ``rasterize_normals``.
    """
    torch.empty(30 << 20, dtype=torch.uint8)  # glibc's limits follow blocks of at most 32 MiB


def measure(
    candidates: Mapping[str, Function],
    device: torch.device | str = "cpu",
    *,
    seconds: float = 1.0,
    min_runs: int = 5,
    max_runs: int = 200,
) -> dict[str, Timing]:
    """Time the candidates in turn, round after round, until ``seconds`` each (or ``max_runs``) are spent.

    One candidate after the other in every round, so that a slow minute of the machine hits all alike. On a CPU a run of
    less than `BRIEF` follows one that is not counted: in a network the data has just been written, here it would have
    been pushed out of the caches by the candidate before. On CUDA each run is timed by events on the current stream,
    after the L2 cache was overwritten.

    Args:
        candidates: name -> function without arguments.
        device: where the functions work.
        seconds: rough time to spend on each candidate.
    """
    device = torch.device(device)
    settle_allocator()
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    peaks: dict[str, int] = {}
    for name, function in candidates.items():
        started = time.perf_counter()
        function()  # compile, autotune, allocate
        if device.type == "cuda":
            peaks[name] = _peak_bytes(function, device)
        elif time.perf_counter() - started < seconds:
            function()
    timers = {name: _timer(function, device) for name, function in candidates.items()}
    spent = dict.fromkeys(candidates, 0.0)
    going = set(candidates)
    for round_ in range(max_runs):
        for name in [name for name in candidates if name in going]:
            started = time.perf_counter()
            samples[name].append(timers[name]())
            spent[name] += time.perf_counter() - started
            # A candidate that is slow beyond measure gets few runs rather than minutes.
            if spent[name] >= (seconds if round_ + 1 >= min_runs else 5 * seconds):
                going.discard(name)
        if not going:
            break
    return {name: _summary(values, peaks.get(name)) for name, values in samples.items()}


def warm_seconds(run: Callable[[], float]) -> float:
    """What ``run``, which times a call, returns: the second time where the first one is brief."""
    first = run()
    return run() if first < BRIEF else first


def _summary(values: list[float], peak: int | None) -> Timing:
    if len(values) == 1:
        return Timing(values[0], values[0], values[0], 1, peak)
    fifths = statistics.quantiles(values, n=5, method="inclusive")
    return Timing(statistics.median(values), fifths[0], fifths[3], len(values), peak)


def _timer(function: Function, device: torch.device) -> Callable[[], float]:
    run = timer(function, device)
    if device.type != "cuda":
        return lambda: warm_seconds(run)

    def after_flush() -> float:
        _larger_than_the_cache(device).zero_()
        return run()

    return after_flush


@lru_cache
def _larger_than_the_cache(device: torch.device) -> torch.Tensor:
    size = max(2 * torch.cuda.get_device_properties(device).L2_cache_size, 1 << 20)
    return torch.empty(size, dtype=torch.uint8, device=device)


def _peak_bytes(function: Function, device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def graphed(function: Function) -> Function:
    """``function`` captured in a CUDA graph: what it costs without launch overhead."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


@dataclass(frozen=True)
class Ceiling:
    """What the machine can do at best, as measured."""

    copy_bytes_per_second: float  # read + written
    flops_per_second: dict[str, float]  # matrix product, by dtype


def measure_ceiling(device: torch.device | str, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> Ceiling:
    """Copy bandwidth (a copy much larger than the caches) and matrix-product rate of ``device``."""
    device = torch.device(device)
    # At least four times any cache here; on a GPU large enough to hide the launch.
    count = 1 << (29 if device.type == "cuda" else 26)
    source = torch.randn(count // 4, device=device)
    target = torch.empty_like(source)
    copy = measure({"copy": lambda: target.copy_(source)}, device, seconds=0.5)["copy"]
    rates = {}
    for dtype in dtypes:
        size = 8192 if device.type == "cuda" else 1024
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        product = measure({"matmul": lambda a=a, b=b: a @ b}, device, seconds=0.5)["matmul"]  # type: ignore[misc]
        rates[str(dtype).removeprefix("torch.")] = 2 * size**3 / product.median
    return Ceiling(2 * source.nbytes / copy.median, rates)
