"""``garfast train identity``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from garfast.cli.train import options


@click.command(name="identity", short_help="Train the identity network and the perceptual distance.")
@options.portraits_option
@options.models_option
@options.out_option
@click.option("--steps", type=click.IntRange(1), default=4000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(4), default=48, show_default=True, help="Pictures a step, two a person.")
@click.option("--size", type=click.IntRange(16), default=64, show_default=True, help="Side of the pictures, pixels.")
@click.option("--embedding", type=click.IntRange(2), default=128, show_default=True, help="Length of the embedding.")
@click.option("--rate", type=float, default=2e-3, show_default=True, help="Peak learning rate.")
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    help="Of the contrastive loss: the smaller, the more those count who look alike.",
)
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
    **settings: Any,
) -> None:
    """Train the network that tells people apart, on pictures of people of whom there are several.

    Writes OUT/identity.safetensors, and its backbone as OUT/perceptual.safetensors for the perceptual distance.
    """
    import torch

    from garfast.train.identity import IdentityTask, IdentityTraining
    from garfast.train.portraits import open_portraits

    torch.set_num_threads(threads)
    source = open_portraits(portraits, options.model_shares(models), 2 * settings["size"], settings["seed"])
    chosen = IdentityTraining(**settings, bfloat16=not float32)
    task = IdentityTask(chosen, source)
    options.run(task, out, chosen.steps, minutes, asdict(chosen) | {"portraits": source.count}, "identity")
