"""Which convolution modulated_conv2d runs forward on a GPU: our own kernel or the library's ('library').

Our own is the tensor-core kernel ('mma') with impl='cuda' and Triton's ('triton') with impl='triton'. The first of
these that says: `use_convolution`, the environment variable GARFAST_CONV (mma, triton, library or auto), what
`tune_convolutions` measured on this GPU, and a model of them. The model is no measurement: it is arithmetic over the
rates on a data sheet and guessed efficiencies, so tune once on the GPU that matters.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from garfast.errors import ArgumentError
from garfast.io.atomic import atomic_path
from garfast.io.directories import data_directory
from garfast.ops import _conv_mma, _conv_triton, _dispatch, _timing

PATHS = ("mma", "triton", "library")

# One H200: FLOP/s of each dtype; bytes/s. Other GPUs have other rates in like proportion.
_RATES = {"float16": 989e12, "bfloat16": 989e12, "tf32": 495e12, "float32": 67e12}
_BANDWIDTH = 4.8e12
# The share of the rate that each convolution is supposed to reach on a full GPU: guesses.
_EFFICIENCY = {"mma": 0.5, "triton": 0.4, "library": 0.7}


class Layer(NamedTuple):
    """What the choice depends on; sizes are those of x."""

    batch: int
    in_channels: int
    out_channels: int
    height: int
    width: int
    kernel: int
    up: int
    dtype: str  # of the products: 'float32', 'tf32', 'float16', 'bfloat16'
    channels_last: bool
    weight_channels_last: bool
    keep: bool  # whether the convolution is written beside the result, as the backward wants it

    @property
    def key(self) -> str:
        """One word for files; those of other versions have another number of parts and are not met again."""
        return "-".join(str(int(value) if isinstance(value, bool) else value) for value in self)


def layer_of(x: Tensor, weight: Tensor, taps: Tensor | None, keep: bool) -> Layer:
    """The layer that convolves ``x`` with ``weight``, up-sampled if there are ``taps``."""
    batch, channels, height, width = x.shape
    outputs, _, kernel, _ = weight.shape
    up, dtype = 1 if taps is None else 2, _dispatch.dtype_suffix(x.dtype)
    if dtype == "float32" and _dispatch.tf32_allowed():
        dtype = "tf32"
    last, weight_last = (_dispatch.memory_format(tensor) == torch.channels_last for tensor in (x, weight))
    return Layer(batch, channels, outputs, height, width, kernel, up, dtype, last, weight_last, keep)


class _State:
    """What the process knows; one for all threads."""

    override: str | None = None
    measuring = False
    # Per GPU, per layer, per path: milliseconds. None: not read yet.
    measured: dict[str, dict[str, dict[str, float]]] | None = None


_state = _State()


def choose(
    layer: Layer, device: torch.device, run: Mapping[str, Callable[[], object]] | None = None, own: str = "mma"
) -> str:
    """Which of the paths in ``run`` to take for a layer that all of them can run.

    Args:
        run: calls that run the layer by each path, for `tune_convolutions`: ``own``, 'library', and variants of ``own``
            whose names start with it. Without them nothing is measured.
        own: 'mma' or 'triton'.

    Raises:
        ArgumentError: GARFAST_CONV is something else.
    """
    asked = _state.override or os.environ.get("GARFAST_CONV", "auto")
    if asked not in (*PATHS, "auto"):
        raise ArgumentError(f"GARFAST_CONV must be {', '.join(PATHS)} or auto, not {asked!r}")
    if asked == "library":
        return asked
    key = layer.key if own == "mma" else f"{layer.key}-{own}"
    times = _measured().get(_gpu(device), {}).get(key)
    if times is None and run is not None and _state.measuring and not _capturing(device):
        times = _measured().setdefault(_gpu(device), {})[key] = _measure(run, device)
    if times is None:
        times = estimate(layer, own)
    # What another version measured may name tiles that this one has not.
    known = {path: time for path, time in times.items() if path in (run or (own, "library"))}
    if asked == own:
        known = {path: time for path, time in known.items() if path != "library"}
    return min(known, key=known.__getitem__, default=own)


@contextmanager
def use_convolution(path: str) -> Iterator[None]:
    """Inside the block every forward takes ``path`` ('mma', 'triton' or 'library') where it can; for all threads.

    Raises:
        ArgumentError: ``path`` is something else.
    """
    if path not in PATHS:
        raise ArgumentError(f"use_convolution: path must be mma, triton or library, not {path!r}")
    before, _state.override = _state.override, path
    try:
        yield
    finally:
        _state.override = before


@contextmanager
def tune_convolutions(save: bool = True) -> Iterator[None]:
    """Inside the block every layer that runs forward on a GPU is timed once by each path; the fastest is used then on.

    Run the network once inside it, with the batch size and dtype of later use and with gradients if these are wanted,
    before any CUDA graph is captured: nothing is timed during a capture. Layers timed before, in this process or by an
    earlier one, are not timed again.

    Args:
        save: keep the times for later processes, in convolutions.json in the user's data folder.

    Raises:
        OutputError: the file cannot be written.
    """
    before, _state.measuring = _state.measuring, True
    try:
        yield
    finally:
        _state.measuring = before
    if save:
        with atomic_path(_file()) as temporary:
            temporary.write_text(json.dumps(_measured(), indent=1, sort_keys=True))


def convolution_times() -> dict[str, dict[str, dict[str, float]]]:
    """What is measured, here or by earlier processes: per GPU and layer the milliseconds by each path.

    A layer's name lists batch, channels in and out, height and width of x, taps, up, dtype, then 1 or 0 for x and for
    the weight in channels_last and for a backward to come; with impl='triton' it ends in that word.
    """
    return deepcopy(_measured())


@lru_cache(maxsize=1024)
def estimate(layer: Layer, own: str = "mma") -> dict[str, float]:
    """The model: milliseconds by each path on an H200, from operations, bytes and how many blocks fill the GPU."""
    batch, channels, out_channels, height, width, kernel, up, dtype, *lasts, keep = layer
    rate, size = _RATES[dtype], 2 if dtype in ("float16", "bfloat16") else 4
    x, y = batch * channels * height * width * size, batch * out_channels * height * width * up * up * size
    weight = out_channels * channels * kernel * kernel * size
    operations = 2.0 * batch * height * width * out_channels * channels * kernel * kernel

    # Modulate; convolve; for up = 2 blur; the epilogue. Each reads and writes once.
    library = max(operations / (rate * _EFFICIENCY["library"]), (x + y + weight) / _BANDWIDTH)
    library += (2 * x + 2 * y * up + (y if keep and up == 2 else 0)) / _BANDWIDTH

    if own == "mma":
        tile = _conv_mma.tiles_in_order(kernel, up, out_channels, height, width, batch=batch)[0]
        programs, size_of_one = tile.blocks(out_channels, up * height, up * width), tile.positions * tile.channels
    else:
        block = _conv_triton.choose_tile(batch, out_channels, height * width)
        programs, size_of_one = block.programs(out_channels, height * width), block.pixels * block.outputs
    blocks = -(-batch * programs // _conv_mma.MULTIPROCESSORS) * _conv_mma.MULTIPROCESSORS
    busy = blocks * 2.0 * size_of_one * channels * kernel * kernel
    fused = max(busy / (rate * _EFFICIENCY[own]), (x + y * (1 + keep) + weight) / _BANDWIDTH)
    if own == "mma" and not any(lasts) and size == 4:  # otherwise both rearrange what is not in channels_last
        fused += 2 * (x + weight) / _BANDWIDTH
    return {own: 1e3 * fused, "library": 1e3 * library}


def _measured() -> dict[str, dict[str, dict[str, float]]]:
    if _state.measured is None:
        _state.measured = _read(_file())
    return _state.measured


def _read(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The times in a file; those of a file that is missing or damaged are measured anew."""
    try:
        found = json.loads(path.read_text())
        return {
            str(gpu): {
                str(key): {str(path): float(time) for path, time in times.items()} for key, times in layers.items()
            }
            for gpu, layers in found.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _file() -> Path:
    return data_directory() / "convolutions.json"


@lru_cache
def _gpu(device: torch.device) -> str:
    """What the times hold for: the GPU and the library's version."""
    if device.type != "cuda":
        return "host"
    return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"


def _capturing(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):  # which need not be the current one
        return torch.cuda.is_current_stream_capturing()


def _measure(run: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """Milliseconds of each path: the median of 10 runs after 3, taking turns."""
    for call in run.values():
        for _ in range(3):
            call()
    timers = {path: _timing.timer(call, device) for path, call in run.items()}
    times: dict[str, list[float]] = {path: [] for path in run}
    for _ in range(10):
        for path, timer in timers.items():
            times[path].append(1e3 * timer())
    return {path: statistics.median(values) for path, values in times.items()}
