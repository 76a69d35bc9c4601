"""Options that several trainings share, and how the command line runs one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from garfast.cli.options import out_folder_option

if TYPE_CHECKING:
    from garfast.morphable import MorphableModel
    from garfast.train.loop import Task


class PathOrSynth(click.Path):
    """A path, or the word that stands for portraits drawn on the fly."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "synth" else super().convert(value, param, ctx)


models_option = click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME[:SHARE]",
    help="Face model and its share of the faces; may be given several times. [default: the default model]",
)
renders_option = click.option(
    "--renders",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder that `garfast train renders` filled.",
)
portraits_option = click.option(
    "--portraits",
    "--data",
    "portraits",
    type=PathOrSynth(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER|synth",
    required=True,
    help="Folder that `garfast train portraits` filled, or 'synth' to draw portraits on the fly, some 20 ms each.",
)
out_option = out_folder_option("Folder for checkpoint, logs, curves and weights; a run in it goes on.")
seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
threads_option = click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
minutes_option = click.option("--minutes", type=float, default=None, help="Stop, ready to go on, after this long.")
alarms_option = click.option(
    "--alarms",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Weights of a face finder: also learn from what it takes for faces in pictures of nobody.",
)
growing_option = click.option(
    "--growing", is_flag=True, help="The renders are still being made: look for new ones (no longer repeatable)."
)
decay_option = click.option(
    "--decay",
    type=click.FloatRange(0, 1),
    default=0.4,
    show_default=True,
    help="Share of the steps, at the end, over which the learning rate falls to 0.",
)
float32_option = click.option(
    "--float32", is_flag=True, help="Compute in float32 also where the processor has bfloat16."
)
start_option = click.option(
    "--start-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Weights to begin with, of the same kind of network (only where OUT holds no run yet).",
)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers above 0 between commas."""
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"'{text}' is no list of whole numbers such as 48,64,96,128")
    return tuple(int(part) for part in parts)


def model_shares(texts: tuple[str, ...]) -> list[tuple[MorphableModel, float]]:
    """Face models and their shares from ``NAME`` or ``NAME:SHARE``; the default model where there is none."""
    from garfast.morphable import load_model

    pairs = []
    for text in texts or ("",):
        name, _, share = text.rpartition(":")
        if not share.replace(".", "", 1).isdigit():
            name, share = text, "1"
        pairs.append((load_model(name or None), float(share)))
    return pairs


def run(
    task: Task,
    out: Path,
    steps: int,
    minutes: float | None,
    settings: dict[str, Any],
    kind: str,
    start_from: Path | None = None,
) -> None:
    """Train a task, write its weights as OUT/KIND.safetensors and say how it went.

    The weights ``start_from`` are where an :class:`AveragedTask` begins, unless OUT holds a run that goes on.
    """
    from garfast.train.averaged_task import AveragedTask
    from garfast.train.loop import CHECKPOINT, LoopConfig, train, write_settings

    if start_from is not None and not (out / CHECKPOINT).is_file():
        assert isinstance(task, AveragedTask)
        task.start_from(start_from, kind)
    write_settings(out, settings)
    done = train(task, LoopConfig(out, steps, minutes=minutes))
    path = out / f"{kind}.safetensors"
    digest = task.export(path, {"steps": done, **settings})
    state = "finished" if done == steps else f"stopped at step {done} of {steps}: the same command goes on"
    click.echo(f"{state}; weights in {path} (sha256 {digest[:16]}), curves and logs beside them")
