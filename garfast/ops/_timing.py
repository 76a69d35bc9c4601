"""How long a call takes, on a GPU without the host's part in it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_CYCLES = 3e9  # per second, at most, of a GPU's clock
_LEAST_PAUSE = 1e-3  # seconds


def timer(call: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """A function that runs ``call`` and returns the seconds that it took; ``call`` must have warmed up."""
    if device.type != "cuda":
        return lambda: _host_seconds(call)
    with torch.cuda.device(device):  # events and the pause go to the current one's stream
        torch.cuda.synchronize()
        # The GPU is kept busy while the host queues the work, half as long again as that took: what counts is the GPU's
        # own time.
        pause = int(_CYCLES * max(1.5 * _host_seconds(call), _LEAST_PAUSE))

    def run() -> float:
        with torch.cuda.device(device):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(pause)
            begin.record()
            call()
            end.record()
            end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return run


def _host_seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
