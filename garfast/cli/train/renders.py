"""``garfast train renders``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="renders", short_help="Render faces for the trainings.")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill.")
@click.option("-n", "--count", type=click.IntRange(1), default=30000, show_default=True, help="Faces, 83 kB each.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME[:SHARE]",
    help="Face model and its share of the faces; may be given several times. [default: the default model]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def command(out: Path, count: int, models: tuple[str, ...], seed: int) -> None:
    """Render faces with their landmarks; goes on where an earlier call stopped."""
    from garfast.morphable import load_model
    from garfast.train.renders import render_faces

    pairs = []
    for text in models or ("",):
        name, _, share = text.rpartition(":") if _is_number(text.rpartition(":")[2]) else (text, "", "1")
        pairs.append((load_model(name or None), float(share)))
    render_faces(out, count, seed, pairs, progress=True)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
