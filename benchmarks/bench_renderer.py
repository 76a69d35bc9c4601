"""The whole renderer: a forward of G and a step of its training, on the package's operators and on the reference ones.

Both have the same weights and inputs and are timed in turn. With GARFAST_BENCH_COMPILE=1 also under torch.compile,
the training then without R1 and path length, whose second derivatives torch.compile does not have.

Environment, beside that of layers.py:
    GARFAST_BENCH_PRESET   tiny-64 (the default on a CPU), synth-128, ffhq-256 (the default on a GPU) or ffhq-1024
    GARFAST_BENCH_BATCH    pictures of a training step; 8 on a CPU, else the preset's
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.layers import DEVICE, DTYPE, WAYS, in_way, peak_memory, side_by_side
from garfast.landmarks.embedded import load_networks
from garfast.morphable import load_model
from garfast.networks.generator import Generator
from garfast.networks.normal_estimator import NormalEstimator
from garfast.train.gar.presets import GarTraining, LossWeights, preset_settings
from garfast.train.gar.task import GarTask, Teachers

PRESET = os.environ.get("GARFAST_BENCH_PRESET", "tiny-64" if DEVICE == "cpu" else "ffhq-256")
ROUNDS = 5 if DEVICE == "cpu" else 30


class _Noise:
    """Photographs of nothing, ready in memory."""

    count = 64

    def __init__(self, size: int) -> None:
        self.size = size
        self.images = torch.randint(0, 256, (self.count, 3, size, size), dtype=torch.uint8)

    def take(self, rows: Sequence[int] | np.ndarray) -> Tensor:
        return self.images[torch.as_tensor(np.asarray(rows))]


def _settings(way: str) -> GarTraining:
    settings = preset_settings(PRESET)
    batch = int(os.environ.get("GARFAST_BENCH_BATCH", "8" if DEVICE == "cpu" else str(settings.batch)))
    lazy = {"r1": 0.0, "path_length": 0.0} if way == "compiled" else {}
    # The paper's losses; its identity term needs an embedding, which the operators do not enter.
    weights = LossWeights(identity=0, **lazy)
    return replace(settings, weights=weights, batch=batch, accumulate=1, paired=0, warmup=0, mixing=0.0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("batch", [1, 4])
def test_forward(benchmark, batch: int, way: str) -> None:
    config = preset_settings(PRESET).generator
    torch.manual_seed(0)
    weights = Generator(config).state_dict()
    maps = [torch.nn.functional.normalize(torch.randn(batch, 3, r, r), dim=1).to(DEVICE) for r in config.resolutions]
    z = torch.randn(batch, config.z_dim, device=DEVICE)
    noise = Generator(config).to(DEVICE).sample_noise(batch)

    def make(impl: str) -> Callable[[], Tensor]:
        generator = Generator(config, impl=impl).to(DEVICE).eval().requires_grad_(False)
        generator.load_state_dict(weights)
        called = in_way(generator, way, fullgraph=False)

        @torch.no_grad()
        def run() -> Tensor:
            with torch.autocast(DEVICE, DTYPE, enabled=DTYPE is not torch.float32):
                image: Tensor = called(maps, z, noise=noise).image
            return image

        return run

    mine, reference = make("auto"), make("reference")
    if DTYPE is torch.float32:
        torch.testing.assert_close(mine(), reference(), atol=5e-3, rtol=1e-2)
    side_by_side(benchmark, mine, reference, rounds=ROUNDS)
    _note(benchmark, batch, mine)


@pytest.mark.parametrize("way", WAYS)
def test_training_step(benchmark, way: str) -> None:
    settings = replace(_settings(way), bfloat16=DTYPE is torch.bfloat16)
    photos, model = _Noise(settings.generator.size), load_model("builtin")

    def make(impl: str) -> Callable[[], dict[str, float]]:
        torch.manual_seed(0)
        teachers = Teachers(normals=NormalEstimator(), landmarks=load_networks().marker)
        task = GarTask(settings, photos, [(model, 1.0)], teachers, device=DEVICE, impl=impl)
        if way == "compiled":
            task.generator.compile()
            task.discriminator.compile()
        # Every sixteenth step has R1, every fourth the path length: a round is that many steps on a GPU.
        steps = range(16) if DEVICE == "cuda" else range(1)

        def run() -> dict[str, float]:
            return [task.step(step) for step in steps][-1]

        return run

    mine = make("auto")
    side_by_side(benchmark, mine, make("reference"), rounds=ROUNDS if DEVICE == "cuda" else 2)
    benchmark.extra_info["steps_per_round"] = 16 if DEVICE == "cuda" else 1
    _note(benchmark, settings.batch, mine)


def _note(benchmark, batch: int, run: Callable[[], object]) -> None:
    benchmark.extra_info |= {"preset": PRESET, "batch": batch, "dtype": str(DTYPE).removeprefix("torch.")}
    memory = peak_memory(run)
    if memory is not None:
        benchmark.extra_info["peak_mib"] = memory / 2**20
