"""``garfast train renders``."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.cli.options import out_folder_option
from garfast.cli.train import options


@click.command(name="renders", short_help="Render faces for the trainings.")
@out_folder_option("Folder to fill.")
@click.option("-n", "--count", type=click.IntRange(1), default=30000, show_default=True, help="Faces, 83 kB each.")
@options.models_option
@options.seed_option
def command(out: Path, count: int, models: tuple[str, ...], seed: int) -> None:
    """Render faces with their landmarks; goes on where an earlier call stopped."""
    from garfast.train.renders import render_faces

    render_faces(out, count, seed, options.model_shares(models), progress=True)
