"""``garfast synth``: write synthetic photographs with known geometry."""

from __future__ import annotations

from pathlib import Path

import click

from garfast.cli.options import out_folder_option


@click.command()
@click.option("-n", "count", type=click.IntRange(min=1), required=True, help="How many photographs.")
@out_folder_option()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME[:WEIGHT]",
    help="Face model, by name or path; repeat to mix several by weight. The default model when left out.",
)
@click.option("--size", type=click.IntRange(64, 1024), default=128, show_default=True, help="Image side, pixels.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same bytes.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=None,
    show_default="one for each core",
    help="Processes, one thread each.",
)
@click.option("--plain", is_flag=True, help="Plain files instead of tar shards.")
@click.option("--shard-size", type=click.IntRange(min=1), default=100, show_default=True, help="Photographs per shard.")
@click.option(
    "--face-scale",
    type=float,
    nargs=2,
    default=(0.35, 0.75),
    show_default=True,
    help="Size of the face's landmark box as a fraction of the image, smallest and largest.",
)
@click.option("--anywhere", is_flag=True, help="Place faces anywhere in the picture instead of near its middle.")
@click.option("--vertices", is_flag=True, help="Also write the mesh's vertices (large).")
@click.option("--sheet", type=click.Path(path_type=Path), help="Also draw a contact sheet of the first 80 here (PNG).")
@click.option("--no-normals", is_flag=True, help="Leave out normal maps and masks.")
def command(
    count: int,
    out: Path,
    models: tuple[str, ...],
    size: int,
    seed: int,
    workers: int | None,
    plain: bool,
    shard_size: int,
    face_scale: tuple[float, float],
    anywhere: bool,
    vertices: bool,
    sheet: Path | None,
    no_normals: bool,
) -> None:
    """Write synthetic photographs of faces, each with its landmarks, normals, pose, camera and coefficients.

    Run again with the same options to continue what was interrupted.
    """
    from garfast.io.cores import usable_cores
    from garfast.io.processes import expect_workers

    workers = workers or usable_cores()
    if workers > 1 and count > shard_size:
        expect_workers()  # they import what they need while this process does
    from garfast.synth.config import SynthConfig
    from garfast.synth.writer import DatasetPlan, load_faces, parse_models, write_dataset

    config = SynthConfig(face_scale=face_scale, anywhere=anywhere, vertices=vertices, normals=not no_normals)
    plan = DatasetPlan(
        count=count,
        models=parse_models(models),
        size=size,
        seed=seed,
        shard_size=shard_size,
        plain=plain,
        config=config,
    )
    written = write_dataset(plan, out, workers, progress=True)
    if sheet is not None:
        from garfast.synth.sheet import contact_sheet

        contact_sheet(load_faces(plan), sheet, min(count, 80))
    kept = count - written
    click.echo(f"wrote {written} photographs to {out}" + (f", kept {kept} that were there" if kept else ""))
