"""``garfast train inverter``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from garfast.cli.options import device_option, impl_option
from garfast.cli.train import options


@click.command(name="inverter", short_help="Train the network that finds a picture's latent code and noise.")
@click.option(
    "--renderer",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Folder that `garfast train gar` wrote. [default: the package's renderer]",
)
@click.option(
    "--portraits",
    type=options.PathOrSynth(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER|synth",
    default=None,
    help="Learn from photographs with known geometry too: a folder that `garfast train portraits` filled, or 'synth' "
    "to draw them on the fly.",
)
@options.models_option
@options.out_option
@click.option("--steps", type=click.IntRange(1), default=2000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="The renderer's pictures a step.")
@click.option(
    "--pool",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Draw so many pictures once, and train V's last layers alone, anew, on these; a batch of some hundred and a "
    "rate of 0.02 suit that.",
)
@click.option("--paired", type=click.IntRange(1), default=4, show_default=True, help="Portraits a step.")
@click.option("--rate", type=float, default=0.01, show_default=True, help="Peak learning rate of Muon.")
@click.option("--fresh", is_flag=True, help="Start from new weights even if the renderer has an inverter.")
@click.option("--latent-weight", type=click.FloatRange(0), default=1.0, show_default=True, help="Of the code.")
@click.option("--style-weight", type=click.FloatRange(0), default=1.0, show_default=True, help="Of its style.")
@click.option("--feature-weight", type=click.FloatRange(0), default=0.5, show_default=True, help="Of feature maps.")
@click.option("--noise-weight", type=click.FloatRange(0), default=0.1, show_default=True, help="Of the noise maps.")
@click.option("--image-weight", type=click.FloatRange(0), default=2.0, show_default=True, help="Of pixels drawn again.")
@click.option(
    "--perceptual-weight",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Of the perceptual distance of pictures drawn again, where the renderer has that network.",
)
@options.seed_option
@options.threads_option
@options.minutes_option
@options.float32_option
@device_option
@impl_option
def command(
    renderer: Path | None,
    portraits: Path | None,
    models: tuple[str, ...],
    out: Path,
    fresh: bool,
    threads: int,
    minutes: float | None,
    float32: bool,
    device: str,
    impl: str,
    **values: Any,
) -> None:
    """Train the inverter on the pictures of a finished renderer. Writes OUT/inverter.safetensors.

    If the renderer has an inverter already, it is trained further. Put the result into the renderer's folder to use it.
    """
    import torch

    from garfast.networks.renderer import load_renderer
    from garfast.train.inverter import InverterTask, InverterTraining, InverterWeights
    from garfast.train.portraits import open_portraits

    torch.set_num_threads(threads)
    names = ("latent", "style", "feature", "noise", "image", "perceptual")
    parts = {name: values.pop(f"{name}_weight") for name in names}
    weights = InverterWeights(features=parts.pop("feature"), **parts)
    chosen = InverterTraining(**values, weights=weights, bfloat16=not float32)
    pairs = options.model_shares(models)
    bundle = load_renderer(renderer, impl=impl)
    task = InverterTask(
        chosen,
        bundle,
        pairs,
        portraits=None if portraits is None else open_portraits(portraits, pairs, bundle.size, chosen.seed),
        fresh=fresh,
        device=device,
        impl=impl,
    )
    options.run(task, out, chosen.steps, minutes, asdict(task.settings), "inverter")
