"""``garfast align``: photographs on the template that the renderer trains with."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.cli.options import device_option, out_folder_option


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IMAGE|FOLDER|PATTERN...")
@out_folder_option()
@click.option("--size", type=click.IntRange(16, 4096), default=256, show_default=True, help="Side, pixels.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes, one thread each.")
@click.option(
    "--landmarks",
    default="auto",
    show_default=True,
    metavar="SOURCE",
    help="auto, face-alignment, embedded, file (beside the photograph), or a folder of landmark files.",
)
@click.option("--face", default="largest", show_default=True, metavar="largest|all|N", help="Which faces of a photo.")
@click.option(
    "--smallest",
    type=click.FloatRange(0),
    default=0,
    show_default=True,
    metavar="PIXELS",
    help="Leave out faces whose aligned square has a shorter side than this in the photograph.",
)
@click.option("--format", "kind", type=click.Choice(["png", "jpg", "webp"]), default="png", show_default=True)
@click.option("--quality", type=click.IntRange(1, 100), default=95, show_default=True, help="Of jpg and webp.")
@click.option(
    "--padding",
    type=click.Choice(["reflection", "border", "zeros"]),
    default="reflection",
    show_default=True,
    help="What lies outside the photograph.",
)
@device_option
def command(
    inputs: tuple[str, ...],
    out: Path,
    size: int,
    workers: int,
    landmarks: str,
    face: str,
    smallest: float,
    kind: str,
    quality: int,
    padding: str,
    device: str,
) -> None:
    """Turn, scale and crop photographs so that their faces lie on one template, as `garfast train gar` wants them.

    Folders are searched with all folders in them, and their structure is kept. Each face becomes a picture and a .json
    with its landmarks and the similarity transform. Run again with the same options to continue what was interrupted or
    to add photographs. What fails is listed in failures.csv, and makes the exit code 1.
    """
    from garfast.fit.align import FAILURES, AlignPlan, align_photographs, find_photographs

    plan = AlignPlan(
        size=size,
        landmarks=landmarks,
        face=int(face) if face.isdecimal() else face,
        smallest=smallest,
        suffix=f".{kind}",
        quality=quality,
        padding=padding,
        device=device,
    )
    report = align_photographs(find_photographs(inputs), out, plan, workers=workers)
    kept = f", {report.skipped} photographs were done already" if report.skipped else ""
    click.echo(f"aligned {report.faces} faces of {report.photographs - report.skipped} photographs to {out}{kept}")
    if report.failed:
        for file, reason in report.failed[:5]:
            click.echo(f"  {reason}" if str(file) in reason else f"  {file}: {reason}", err=True)
        count = len({file for file, _ in report.failed})
        more = " (the first 5 above)" if len(report.failed) > 5 else ""
        click.echo(f"Error: {count} photographs had a failure{more}: see {out / FAILURES}", err=True)
        raise click.exceptions.Exit(1)
