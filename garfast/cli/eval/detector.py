"""``garfast eval detector``: the embedded detector, from photograph to landmarks."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.cli.options import model_option, out_folder_option


@click.command()
@out_folder_option()
@click.option("-n", "count", type=click.IntRange(min=1), default=240, show_default=True, help="Synthetic photographs.")
@click.option("--size", type=click.IntRange(64, 1024), default=320, show_default=True, help="Image side, pixels.")
@click.option("--seed", type=click.IntRange(min=0), default=777, show_default=True, help="Of the photographs.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Score of a face.")
@model_option
def command(out: Path, count: int, size: int, seed: int, threshold: float, model: str | None) -> None:
    """Measure the detector that comes with garfast.

    On synthetic photographs with a face of 12 to 60 % of the side anywhere: how many are found, how far the landmarks
    are off, what else is taken for a face. On scikit-image's pictures of nobody: what is taken for one. On its
    astronaut, resized and turned: whether she is found, and the distance to landmarks placed by hand. Writes
    detector.md, detector.csv and detector.json.
    """
    from tqdm import tqdm

    from garfast.evaluate.detector import (
        false_faces,
        measure_photograph,
        real_face,
        synthetic_photographs,
        write_detector_report,
    )
    from garfast.morphable import load_model

    face_model = load_model(model)
    photographs = synthetic_photographs(face_model, count, seed=seed, size=size)
    faces = [measure_photograph(*p, threshold=threshold) for p in tqdm(photographs, total=count, unit="photo")]
    settings = {"model": face_model.name, "count": count, "size": size, "seed": seed, "threshold": threshold}
    click.echo(write_detector_report(faces, false_faces(threshold), real_face(threshold), out, settings), nl=False)
    click.echo(f"written to {out}")
