"""``garfast train landmarks``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from garfast.cli.train import options


@click.command(name="landmarks", short_help="Train the landmark network of the embedded detector.")
@options.renders_option
@options.out_option
@click.option("--steps", type=click.IntRange(1), default=12000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(6), default=40, show_default=True, help="Crops a step.")
@click.option("--coarse-steps", type=click.IntRange(0), default=6000, show_default=True, help="Steps at 64 pixels.")
@click.option("--rate", type=float, default=1.5e-3, show_default=True, help="Peak learning rate.")
@click.option("--muon", is_flag=True, help="Orthogonal updates instead of AdamW's; wants a --rate of about 0.01.")
@options.decay_option
@options.start_option
@options.seed_option
@options.threads_option
@options.minutes_option
@options.alarms_option
@options.growing_option
@options.float32_option
def command(
    renders: Path,
    out: Path,
    threads: int,
    minutes: float | None,
    alarms: Path | None,
    float32: bool,
    start_from: Path | None,
    **settings: Any,
) -> None:
    """Train the network that marks 68 landmarks on the crop of a face. Writes OUT/landmarks.safetensors."""
    import torch

    from garfast.train.landmarks import KIND, LandmarkTask, LandmarkTraining
    from garfast.train.mining import load_finder, mine
    from garfast.train.renders import Renders

    torch.set_num_threads(threads)
    chosen = LandmarkTraining(**settings, bfloat16=not float32)
    found = mine(load_finder(alarms), chosen.seed, 2000, chosen.size, ratio=(1.2, 1.7)) if alarms else None
    task = LandmarkTask(chosen, Renders(renders), alarms=found)
    made_of = {"renders": task.sampler.renders.count, "alarms": bool(alarms), "weights": start_from is not None}
    options.run(task, out, chosen.steps, minutes, asdict(chosen) | made_of, KIND, start_from)
