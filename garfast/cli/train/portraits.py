"""``garfast train portraits``."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.cli.options import out_folder_option
from garfast.cli.train import options


@click.command(name="portraits", short_help="Draw aligned faces with their geometry, for the renderer's trainings.")
@out_folder_option("Folder to fill.")
@click.option("-n", "--count", type=click.IntRange(1), default=24000, show_default=True, help="Faces, four a person.")
@click.option("--size", type=click.IntRange(16), default=128, show_default=True, help="Side of the pictures, pixels.")
@options.models_option
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that draw.")
@options.seed_option
def command(out: Path, count: int, size: int, models: tuple[str, ...], workers: int, seed: int) -> None:
    """Draw synthetic portraits on the alignment template; goes on where an earlier call stopped."""
    from garfast.train.portraits import draw_portraits

    draw_portraits(out, count, size, seed, options.model_shares(models), workers=workers)
