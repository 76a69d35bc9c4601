"""``garfast eval renderer``: quality of a renderer on portraits that no training saw."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.cli.options import device_option, impl_option, out_folder_option


@click.command()
@click.argument("weights", type=click.Path(path_type=Path), required=False)
@click.option(
    "--portraits", type=click.Path(path_type=Path), required=True, help="Folder of `garfast train portraits`."
)
@out_folder_option()
@click.option(
    "--measure",
    "measures",
    multiple=True,
    type=click.Choice(["normals", "landmarks", "identity", "inversion", "distance"]),
    help="Only these; repeat. All when left out.",
)
@click.option("--count", type=click.IntRange(min=2), default=1024, show_default=True, help="At most so many portraits.")
@click.option(
    "--faces", type=click.IntRange(min=1), default=32, show_default=True, help="Geometries for the landmarks."
)
@click.option("--looks", type=click.IntRange(min=2), default=64, show_default=True, help="Codes z of each of them.")
@click.option("--inversions", type=click.IntRange(min=1), default=8, show_default=True, help="Faces that are inverted.")
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True, help="Of the optimisation.")
@click.option(
    "--inception", type=click.Path(path_type=Path), help="InceptionV3 as TorchScript, for comparable numbers."
)
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Pictures at once.")
@impl_option
@device_option
def command(
    weights: Path | None,
    portraits: Path,
    out: Path,
    measures: tuple[str, ...],
    count: int,
    faces: int,
    looks: int,
    inversions: int,
    steps: int,
    inception: Path | None,
    batch: int,
    impl: str,
    device: str,
) -> None:
    """Measure the renderer in the folder WEIGHTS (the shipped one when left out) on held-out portraits.

    Says how well normals are kept (in degrees), how far landmarks move when only the looks change, whether identity
    survives a change of pose, how many steps of optimisation the inverter saves, and how far the drawn pictures are
    from photographs. Writes renderer.md and renderer.json.
    """
    from garfast.evaluate.features import inception_features
    from garfast.evaluate.renderer_quality import HeldOut, warn_of_changed_models
    from garfast.evaluate.renderer_report import MEASURES, measure_renderer_quality, write_renderer_report
    from garfast.networks.renderer import load_renderer
    from garfast.train.portraits import Portraits

    renderer = load_renderer(weights, device=device, impl=impl)
    held_out = HeldOut(Portraits(portraits), renderer.size, count)
    warn_of_changed_models(held_out)
    results = measure_renderer_quality(
        renderer,
        held_out,
        measures=measures or MEASURES,
        extractor=None if inception is None else inception_features(inception, device),
        batch=batch,
        faces=faces,
        looks=looks,
        inversions=inversions,
        steps=steps,
        tell=lambda name: click.echo(f"measuring {name} ...", err=True),
    )
    settings = {
        "weights": weights or "shipped",
        "notes": renderer.notes,
        "portraits": portraits,
        "count": held_out.count,
        "faces": faces,
        "looks": looks,
        "inversions": inversions,
        "steps": steps,
    }
    click.echo(write_renderer_report(results, out, settings), nl=False)
    click.echo(f"written to {out}")
