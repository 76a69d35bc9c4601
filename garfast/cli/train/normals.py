"""``garfast train normals``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from garfast.cli.train import options


@click.command(name="normals", short_help="Train the network that estimates normal maps.")
@options.portraits_option
@options.out_option
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True, help="Pictures of 64 pixels a step.")
@click.option("--rate", type=float, default=3e-3, show_default=True, help="Peak learning rate.")
@click.option(
    "--coarse-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the steps, from the first, at 64 pixels only.",
)
@options.seed_option
@options.threads_option
@options.minutes_option
@options.float32_option
def command(portraits: Path, out: Path, threads: int, minutes: float | None, float32: bool, **settings: Any) -> None:
    """Train the network that estimates the normal map of an aligned picture. Writes OUT/normals.safetensors."""
    import torch

    from garfast.train.normals import SIZES, NormalTask, NormalTraining
    from garfast.train.portraits import Portraits

    torch.set_num_threads(threads)
    source = Portraits(portraits)
    chosen = NormalTraining(**settings, size=min(source.size, SIZES[-1]), bfloat16=not float32)
    task = NormalTask(chosen, source)
    options.run(task, out, chosen.steps, minutes, asdict(chosen) | {"portraits": source.count}, "normals")
