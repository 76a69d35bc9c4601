"""``garfast train normals``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from garfast.cli.train import options


@click.command(name="normals", short_help="Train the network that estimates normal maps.")
@options.portraits_option
@options.models_option
@options.out_option
@click.option("--steps", type=click.IntRange(1), default=6000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(2), default=10, show_default=True, help="Pictures a step.")
@click.option("--rate", type=float, default=0.02, show_default=True, help="Peak learning rate of Muon.")
@click.option("--widths", default="48,64,96,128", show_default=True, help="Channels at 1/2, 1/4, ... of the size.")
@click.option(
    "--depth",
    type=click.IntRange(1),
    help="Residual blocks at the bottom.  [default: 3, or as many as --start-from has]",
)
@click.option(
    "--fine-depth",
    type=click.IntRange(0),
    help="Further residual blocks at each finer scale.  [default: 0, or as many as --start-from has]",
)
@click.option(
    "--plain",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the pictures that are seen as they are; the others are turned, covered, blurred, ...",
)
@options.start_option
@options.seed_option
@options.threads_option
@options.minutes_option
@options.float32_option
def command(
    portraits: Path,
    models: tuple[str, ...],
    out: Path,
    threads: int,
    minutes: float | None,
    float32: bool,
    widths: str,
    depth: int | None,
    fine_depth: int | None,
    start_from: Path | None,
    **settings: Any,
) -> None:
    """Train the network that estimates the normal map of an aligned picture. Writes OUT/normals.safetensors.

    With --start-from the network has the widths of those weights and at least their depths; blocks they lack start as
    identities.
    """
    import torch

    from garfast.networks.normal_estimator import NormalEstimatorConfig
    from garfast.networks.weights import load_weights
    from garfast.train.normals import KIND, SIZE, NormalTask, NormalTraining
    from garfast.train.portraits import open_portraits

    torch.set_num_threads(threads)
    source = open_portraits(portraits, options.model_shares(models), SIZE, settings["seed"])
    chosen = NormalTraining(**settings, size=min(source.size, SIZE), bfloat16=not float32)
    config = NormalEstimatorConfig(options.whole_numbers(widths))
    if start_from is not None:
        config = NormalEstimatorConfig.from_dict(load_weights(start_from, kind=KIND)[0])
    if depth is not None:
        config = replace(config, depth=depth)
    if fine_depth is not None:
        config = replace(config, fine_depth=fine_depth)
    task = NormalTask(chosen, source, config)
    options.run(task, out, chosen.steps, minutes, asdict(chosen) | {"portraits": source.count}, KIND, start_from)
