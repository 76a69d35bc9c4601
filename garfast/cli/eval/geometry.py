"""``garfast eval geometry``: fits of synthetic faces against their true geometry."""

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
@out_folder_option("Folder to write to, and to go on in.")
@click.option("-n", "count", type=click.IntRange(min=1), default=50, show_default=True, help="How many faces.")
@model_option
@click.option(
    "--stages",
    "stages",
    multiple=True,
    type=click.Choice(["mean", "landmarks", "inversion", "full"]),
    help="A row: the mean face, or a fit up to these stages; repeat. Default: all but inversion.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME=FOLDER[:OPTION]",
    help="A row: the full fit with the renderer in FOLDER (the shipped one when empty); OPTION: "
    "no-inverter (start from the mean style) or random (from a random code). Repeat.",
)
@refinement_options
@click.option(
    "--landmarks",
    type=click.Choice(["embedded", "face-alignment", "truth"]),
    default="embedded",
    show_default=True,
    help="Landmarks for the fits: of a detector, or the true ones.",
)
@click.option(
    "--pictures",
    type=click.Choice(["portraits", "any"]),
    default="portraits",
    show_default=True,
    help="Portraits like those the shipped networks learnt from, or all that `garfast synth` draws.",
)
@click.option("--size", type=click.IntRange(64, 1024), default=256, show_default=True, help="Image side, pixels.")
@click.option("--seed", type=click.IntRange(min=0), default=7_000_003, show_default=True, help="Of the photographs.")
@click.option("--projection", type=click.Choice(["orthographic", "pinhole"]), default="orthographic", show_default=True)
@click.option("--radius", type=float, default=95.0, show_default=True, help="Compared around the tip of the nose, mm.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, one thread each.")
@device_option
def command(
    out: Path,
    count: int,
    model: str | None,
    stages: tuple[str, ...],
    variants: tuple[str, ...],
    preset: str | None,
    config: str | None,
    landmarks: str,
    pictures: str,
    size: int,
    seed: int,
    projection: str,
    radius: float,
    workers: int,
    device: str,
) -> None:
    """Fit photographs of synthetic faces and measure how far the fitted faces are from the true ones.

    Every row is fitted to the same photographs, so differences between rows are paired. Writes geometry.md,
    geometry.csv and geometry.json; run again to go on after an interruption, to add rows or faces.

    The paper's ablations are variants, such as --variant "no normal consistency=FOLDER" with a renderer trained
    without that loss, and --variant "random start=:random".
    """
    from garfast.evaluate.geometry import GeometryPlan, evaluate_geometry
    from garfast.evaluate.geometry_report import write_geometry_report
    from garfast.evaluate.rows import furthest_kind, make_rows
    from garfast.morphable import default_model_name

    plan = GeometryPlan(
        model=model or default_model_name(),
        count=count,
        seed=seed,
        size=size,
        pictures=pictures,
        landmarks=landmarks,
        projection=projection,
        radius=radius,
    )
    kinds = stages or dict.fromkeys(("mean", "landmarks", furthest_kind()))
    rows = make_rows(kinds, variants, refinement_settings(preset, config))
    reports = evaluate_geometry(plan, rows, out, workers=workers, device=device, progress=True)
    click.echo(write_geometry_report(plan, rows, reports, out), nl=False)
    click.echo(f"written to {out}")
