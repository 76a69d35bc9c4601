"""``garfast eval florence``: faces from video frames against 3D scans."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.cli.options import (
    device_option,
    model_option,
    out_folder_option,
    refinement_options,
    refinement_settings,
)


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option("--scans", type=click.Path(path_type=Path), required=True, help="Folder of SUBJECT.obj or SUBJECT/.")
@out_folder_option()
@click.option("--frames", type=click.IntRange(min=1), default=5, show_default=True, help="Frames averaged per subject.")
@click.option("--radius", type=float, default=95.0, show_default=True, help="Compared around the tip of the nose, mm.")
@click.option("--scale/--no-scale", default=False, show_default=True, help="Whether a face may change its size.")
@click.option(
    "--direction",
    type=click.Choice(["scan", "mesh"]),
    default="scan",
    show_default=True,
    help="Distances from the scan to the face, or from the face to the scan.",
)
@click.option(
    "--stages",
    type=click.Choice(["mean", "landmarks", "inversion", "full"]),
    help="How far photographs are fitted; mean ignores them. Default: as `garfast fit`.",
)
@click.option(
    "--landmarks", type=click.Choice(["auto", "embedded", "face-alignment"]), default="auto", show_default=True
)
@click.option("--weights", type=click.Path(path_type=Path), help="Renderer of the fit; the shipped one when left out.")
@refinement_options
@model_option
@device_option
def command(
    predictions: Path,
    scans: Path,
    out: Path,
    frames: int,
    radius: float,
    scale: bool,
    direction: str,
    stages: str | None,
    landmarks: str,
    weights: Path | None,
    preset: str | None,
    config: str | None,
    model: str | None,
    device: str,
) -> None:
    """Compare faces with 3D scans by the protocol of the Florence data set.

    PREDICTIONS holds CONDITION/SUBJECT/ folders (cooperative, indoor, outdoor), each with frames: photographs, results
    of `garfast fit`, or meshes of one topology in mm. The frames of a subject are averaged to one neutral face, which
    is registered with the scan by ICP; the error is the mean point-to-plane distance near the tip of the nose.
    """
    import numpy as np

    from garfast.evaluate.fitting import Fits
    from garfast.evaluate.florence import evaluate_florence, find_subjects, write_florence_report
    from garfast.evaluate.rows import furthest_kind, make_row
    from garfast.evaluate.scans import ScanConfig
    from garfast.io.images import read_image
    from garfast.landmarks import detect
    from garfast.morphable import load_model

    stages = stages or (furthest_kind() if weights is None else "full")
    scan_config = ScanConfig(radius=radius, scale=scale, direction=direction)
    subjects = find_subjects(predictions)
    loaded = load_model(model)
    row = make_row(stages, None if weights is None else str(weights), refinement_settings(preset, config))
    fits = Fits(loaded, device=device)

    def fit(path: Path) -> np.ndarray:
        photo = read_image(path)
        return fits.coefficients(row, photo, detect(photo, method=landmarks, path=path, device=device)[0])[0]

    results = evaluate_florence(
        subjects, scans, frames=frames, config=scan_config, model=loaded, fit=fit, progress=True
    )
    settings = {
        "predictions": predictions,
        "scans": scans,
        "frames": frames,
        "radius": radius,
        "scale": scale,
        "direction": direction,
        "stages": stages,
        "model": loaded.name,
    }
    click.echo(write_florence_report(results, out, settings), nl=False)
    click.echo(f"written to {out}")
