"""``garfast train gar``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from garfast.cli.options import device_option, impl_option
from garfast.cli.train import options


@click.command(name="gar", short_help="Train the renderer G against its adversary.")
@click.option("--preset", default="synth-128", show_default=True, help="tiny-64, synth-128, ffhq-256 or ffhq-1024.")
@click.option(
    "--data",
    type=options.PathOrSynth(exists=True, path_type=Path),
    metavar="FOLDER|synth",
    default=None,
    help="Aligned photographs: a folder of pictures or of tar shards, or 'synth'. [default: the portraits]",
)
@click.option(
    "--portraits",
    type=options.PathOrSynth(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER|synth",
    default=None,
    help="Photographs with known geometry for the paired losses: a folder that `garfast train portraits` filled, or "
    "'synth' to draw them on the fly.",
)
@click.option(
    "--teachers",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Folder with normals.safetensors, identity.safetensors and perceptual.safetensors. [default: the package's]",
)
@options.models_option
@options.out_option
@click.option("--steps", type=click.IntRange(1), default=None, help="Steps in all.")
@click.option("--batch", type=click.IntRange(4), default=None, help="Pictures a step.")
@click.option("--start-from", type=click.Path(exists=True, path_type=Path), default=None, help="See below.")
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Any other setting, see below.")
@options.seed_option
@options.threads_option
@options.minutes_option
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder to keep the decoded photographs of --data in.",
)
@click.option(
    "--readers", type=click.IntRange(1), default=1, show_default=True, help="Threads that decode photographs."
)
@click.option("--tensorboard/--no-tensorboard", default=None, help="TensorBoard events. [default: where installed]")
@click.option("--evaluate-every", type=click.IntRange(1), default=250, show_default=True, help="Steps.")
@device_option
@impl_option
def command(
    preset: str,
    data: Path | str | None,
    portraits: Path | str | None,
    teachers: Path | None,
    models: tuple[str, ...],
    out: Path,
    steps: int | None,
    batch: int | None,
    start_from: Path | None,
    overrides: tuple[str, ...],
    seed: int,
    threads: int,
    minutes: float | None,
    cache: Path | None,
    readers: int,
    tensorboard: bool | None,
    evaluate_every: int,
    device: str,
    impl: str,
) -> None:
    """Train the renderer. Writes OUT/renderer/, which `garfast fit --weights` reads, and OUT/samples/.

    --start-from CHECKPOINT takes the networks of another run, of the same size or of half the size (only where OUT
    holds no run yet); --start-from FOLDER those of finished weights, to which a discriminator is learnt anew. --set
    changes any setting of the preset by its dotted name: --set weights.normal=0 trains without normal consistency,
    --set generator.nim=concat is the paper's other ablation.

    On several GPUs: `torchrun --nproc-per-node 4 -m garfast train gar ...`; a batch is that of one process.
    """
    import torch

    from garfast.train.gar import distributed
    from garfast.train.gar.presets import override, preset_settings
    from garfast.train.gar.report import Reporter
    from garfast.train.gar.setup import build_task
    from garfast.train.loop import CHECKPOINT, LoopConfig, train, write_settings

    torch.set_num_threads(threads)
    changes: dict[str, Any] = {"seed": seed}
    if steps is not None:
        changes["steps"] = steps
    if batch is not None:
        changes["batch"] = batch
    settings = override(preset_settings(preset), changes, overrides)
    with distributed.processes(device) as place, Reporter(out, tensorboard=tensorboard) as reporter:
        task = build_task(
            settings,
            options.model_shares(models),
            data=data,
            portraits=portraits,
            teachers=teachers,
            cache=cache,
            readers=readers,
            device=place,
            impl=impl,
        )
        task.reporter = reporter
        if start_from is not None and not (out / CHECKPOINT).is_file():
            from garfast.train.gar.grow import start_from as begin

            begin(task, start_from)
        if distributed.is_first():
            write_settings(out, {"preset": preset, "processes": distributed.world(), **asdict(settings)})
        config = LoopConfig(
            out, settings.steps, log_every=20, evaluate_every=evaluate_every, checkpoint_every=100, minutes=minutes
        )
        done = train(task, config, crew=distributed.Crew(), listener=reporter.scalars)
        if not distributed.is_first():
            return
        digest = task.export(out / "renderer", {"preset": preset, "steps": done, "settings": asdict(settings)})
    state = (
        "finished"
        if done == settings.steps
        else f"stopped at step {done} of {settings.steps}: the same command goes on"
    )
    click.echo(
        f"{state}; weights in {out / 'renderer'} (generator's sha256 {digest[:16]}), curves and logs beside them"
    )
    if task.skipped:
        click.echo(f"photographs that could not be read and were skipped: {task.skipped}")
