"""``garfast eval nme``: landmark errors on photographs with true landmarks."""

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
@click.argument("folder", type=click.Path(path_type=Path))
@out_folder_option()
@click.option(
    "--predict",
    type=click.Choice(["detector", "landmarks", "inversion", "full"]),
    help="Landmarks of the detector alone, or of the mesh fitted up to these stages. Default: as `garfast fit`.",
)
@click.option("--detector", type=click.Choice(["embedded", "face-alignment"]), default="embedded", show_default=True)
@click.option(
    "--box",
    type=click.Choice(["found", "truth"]),
    default="found",
    show_default=True,
    help="Whether the detector finds the face, or is given the box of the true landmarks.",
)
@click.option(
    "--jaw",
    type=click.Choice(["3d", "contour"]),
    default="3d",
    show_default=True,
    help="Jaw of the truth; 'contour' with --predict detector only.",
)
@click.option(
    "--origin",
    type=float,
    default=1.0,
    show_default=True,
    help="Coordinates of the centre of the top left pixel in the .mat files (MATLAB counts from 1).",
)
@click.option("--weights", type=click.Path(path_type=Path), help="Renderer of the fit; the shipped one when left out.")
@refinement_options
@click.option("--limit", type=click.IntRange(min=1), help="Only so many photographs, the first by name.")
@model_option
@device_option
def command(
    folder: Path,
    out: Path,
    predict: str | None,
    detector: str,
    box: str,
    jaw: str,
    origin: float,
    weights: Path | None,
    preset: str | None,
    config: str | None,
    limit: int | None,
    model: str | None,
    device: str,
) -> None:
    """Landmark errors (NME) by the protocol of AFLW2000-3D.

    FOLDER holds photographs, each with a .mat file of AFLW2000-3D (or a .pts, .npy, .txt or .json landmark file) of its
    name. The error of a photograph is the mean distance of its 68 landmarks over sqrt(width * height) of the box around
    the true ones; means are given by yaw, 0-30, 30-60 and 60-90 degrees, and the balanced mean is that of the three.
    """
    from garfast.evaluate.fitting import Fits
    from garfast.evaluate.landmark_truth import find_truth
    from garfast.evaluate.nme import (
        DetectorPredictor,
        FitPredictor,
        Predictor,
        evaluate_landmarks,
        write_landmark_report,
    )
    from garfast.evaluate.rows import furthest_kind, make_row
    from garfast.morphable import load_model

    predict = predict or (furthest_kind() if weights is None else "full")
    if jaw == "contour" and predict != "detector":
        raise click.UsageError(
            "a fitted mesh has its jaw where it is, not on the outline: --jaw contour needs --predict detector"
        )
    truths = find_truth(folder, origin)[:limit]
    found = DetectorPredictor(detector, box=box, jaw=jaw)
    predictor: Predictor = found
    if predict != "detector":
        row = make_row(predict, None if weights is None else str(weights), refinement_settings(preset, config))
        # A fit lets the jaw's landmarks slide along the outline.
        found = DetectorPredictor(detector, box=box, jaw="contour")
        predictor = FitPredictor(found, Fits(load_model(model), device=device), row)
    results = evaluate_landmarks(truths, predictor, progress=True)
    settings = {"folder": folder, "predict": predict, "detector": detector, "box": box, "jaw": jaw, "origin": origin}
    click.echo(write_landmark_report(results, out, settings), nl=False)
    click.echo(f"written to {out}")
