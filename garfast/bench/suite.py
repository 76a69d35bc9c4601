"""Running the cases: kernels against the reference, with progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from garfast.bench import cases as cases_
from garfast.bench import report, timing
from garfast.bench.cases import Case
from garfast.bench.layers import GENERATOR_256
from garfast.bench.timing import Ceiling, Function, measure, measure_ceiling
from garfast.errors import ArgumentError


@dataclass(frozen=True)
class Result:
    """What a run measured."""

    rows: list[report.Row]
    ceiling: Ceiling


def select(
    device: str, operators: Collection[str], batches: Sequence[int], dtype: torch.dtype, max_resolution: int
) -> list[Case]:
    """The cases of ``operators``, in a fixed order."""
    layers = [layer for layer in GENERATOR_256 if layer.resolution <= max_resolution]
    found: list[Case] = []
    if "modulated_conv2d" in operators:
        found += cases_.modulated_conv2d_cases(device, dtype, batches, layers)
    if "noise_bias_act" in operators:
        found += cases_.noise_bias_act_cases(device, dtype, batches)
    if "upfirdn2d" in operators:
        found += cases_.upfirdn2d_cases(device, dtype, batches)
    return found + [case for case in cases_.mesh_cases(device, batches) if case.op in operators]


def run(
    device: str,
    operators: Collection[str],
    batches: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    max_resolution: int | None = None,
    seconds: float = 0.5,
    compiled: bool = False,
    limit: float = math.inf,
    after: Callable[[list[report.Row], Ceiling], None] = lambda rows, ceiling: None,
) -> Result:
    """Measure every case with the kernels and the reference in turn.

    Args:
        device: 'cpu' or 'cuda'.
        operators: names of operators of garfast.ops.
        dtype: of the dense operators; float32 on the CPU and bfloat16 on a GPU when None. Meshes are float32.
        max_resolution: leave out larger convolution layers; 64 on the CPU and 256 on a GPU when None.
        compiled: measure the reference through torch.compile as well, as 'compiled'.
        limit: seconds after which no further case is begun.
        after: called with what is measured so far after each case.

    Raises:
        ArgumentError: the device does not exist.
    """
    from tqdm import tqdm

    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise ArgumentError("bench: PyTorch sees no CUDA device: use --device cpu")
    dtype = dtype or (torch.bfloat16 if on_gpu else torch.float32)
    ceiling = measure_ceiling(device, tuple(dict.fromkeys([dtype, torch.float32])))
    rows: list[report.Row] = []
    started = time.monotonic()
    for case in tqdm(select(device, operators, batches, dtype, max_resolution or (256 if on_gpu else 64))):
        if time.monotonic() - started > limit:
            break
        torch.manual_seed(0)
        candidates: dict[str, Function] = {
            "reference": timing.as_in_networks(case.make("reference")),
            "kernel": case.make("auto"),
        }
        if case.make_clone:
            candidates["clone"] = case.make_clone()
        if compiled:
            candidates["compiled"] = timing.as_in_networks(timing.compiled(case.make("reference")))
        rows.append(report.row(case, measure(candidates, device, seconds=seconds)))
        after(rows, ceiling)
    return Result(rows, ceiling)
