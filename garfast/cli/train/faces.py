"""``garfast train faces``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from garfast.cli.train import options


@click.command(name="faces", short_help="Train the face finder of the embedded detector.")
@options.renders_option
@options.out_option
@click.option("--steps", type=click.IntRange(1), default=6000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(3), default=16, show_default=True, help="Scenes a step.")
@click.option("--rate", type=float, default=2e-3, show_default=True, help="Peak learning rate.")
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
    """Train the network that finds faces in a photo. Writes OUT/faces.safetensors."""
    import torch

    from garfast.train.faces import KIND, FaceTask, FaceTraining
    from garfast.train.mining import load_finder, mine
    from garfast.train.renders import Renders

    torch.set_num_threads(threads)
    chosen = FaceTraining(**settings, bfloat16=not float32)
    # Windows in which what was taken for a face is as large as the faces to be found.
    found = mine(load_finder(alarms), chosen.seed, 2000, chosen.size, ratio=(3.0, 10.0)) if alarms else None
    task = FaceTask(chosen, Renders(renders), alarms=found)
    made_of = {"renders": task.sampler.renders.count, "alarms": bool(alarms), "weights": start_from is not None}
    options.run(task, out, chosen.steps, minutes, asdict(chosen) | made_of, KIND, start_from)
