"""``garfast train``: make the data that networks learn from, and train them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from garfast.train.loop import Task


@click.group(name="train")
def command() -> None:
    """Make the data that networks learn from, and train them.

    Every training can be stopped at any moment (Ctrl-C, SIGTERM) and goes on where it was when the same command is
    given again.
    """


@command.command(name="renders", short_help="Render faces for the trainings.")
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill.")
@click.option("-n", "--count", type=click.IntRange(1), default=30000, show_default=True, help="Faces, 83 kB each.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME[:SHARE]",
    help="Face model and its share of the faces; may be given several times. [default: the default model]",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def renders_command(out: Path, count: int, models: tuple[str, ...], seed: int) -> None:
    """Render faces with their landmarks; goes on where an earlier call stopped."""
    from garfast.morphable import load_model
    from garfast.train.renders import render_faces

    pairs = []
    for text in models or ("",):
        name, _, share = text.rpartition(":") if _is_number(text.rpartition(":")[2]) else (text, "", "1")
        pairs.append((load_model(name or None), float(share)))
    render_faces(out, count, seed, pairs, progress=True)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


_renders = click.option(
    "--renders",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder that `garfast train renders` filled.",
)
_out = click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for checkpoint, logs, curves and weights; a run in it goes on.",
)
_seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
_threads = click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads.")
_minutes = click.option("--minutes", type=float, default=None, help="Stop, ready to go on, after this long.")
_alarms = click.option(
    "--alarms",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="Weights of a face finder: also learn from what it takes for faces in pictures of nobody.",
)
_growing = click.option(
    "--growing", is_flag=True, help="The renders are still being made: look for new ones (no longer repeatable)."
)
_float32 = click.option("--float32", is_flag=True, help="Compute in float32 instead of bfloat16.")


@command.command(name="landmarks", short_help="Train the landmark network of the embedded detector.")
@_renders
@_out
@click.option("--steps", type=click.IntRange(1), default=12000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(6), default=40, show_default=True, help="Crops a step.")
@click.option("--coarse-steps", type=click.IntRange(0), default=6000, show_default=True, help="Steps at 64 pixels.")
@_seed
@_threads
@_minutes
@_alarms
@_growing
@_float32
def landmarks_command(
    renders: Path, out: Path, threads: int, minutes: float | None, alarms: Path | None, float32: bool, **settings: Any
) -> None:
    """Train the network that marks 68 landmarks on the crop of a face. Writes OUT/landmarks.safetensors."""
    import torch

    from garfast.train.landmarks import LandmarkTask, LandmarkTraining
    from garfast.train.mining import load_finder, mine
    from garfast.train.renders import Renders

    torch.set_num_threads(threads)
    chosen = LandmarkTraining(**settings, bfloat16=not float32)
    found = mine(load_finder(alarms), chosen.seed, 2000, chosen.size, ratio=(1.2, 1.7)) if alarms else None
    task = LandmarkTask(chosen, Renders(renders), alarms=found)
    _run(
        task,
        out,
        chosen.steps,
        minutes,
        asdict(chosen) | {"renders": task.sampler.renders.count, "alarms": bool(alarms)},
        "landmarks",
    )


@command.command(name="faces", short_help="Train the face finder of the embedded detector.")
@_renders
@_out
@click.option("--steps", type=click.IntRange(1), default=6000, show_default=True, help="Steps in all.")
@click.option("--batch", type=click.IntRange(3), default=16, show_default=True, help="Scenes a step.")
@_seed
@_threads
@_minutes
@_alarms
@_growing
@_float32
def faces_command(
    renders: Path, out: Path, threads: int, minutes: float | None, alarms: Path | None, float32: bool, **settings: Any
) -> None:
    """Train the network that finds faces in a photo. Writes OUT/faces.safetensors."""
    import torch

    from garfast.train.faces import FaceTask, FaceTraining
    from garfast.train.mining import load_finder, mine
    from garfast.train.renders import Renders

    torch.set_num_threads(threads)
    chosen = FaceTraining(**settings, bfloat16=not float32)
    # Windows in which what was taken for a face is as large as the faces to be found.
    found = mine(load_finder(alarms), chosen.seed, 2000, chosen.size, ratio=(3.0, 10.0)) if alarms else None
    task = FaceTask(chosen, Renders(renders), alarms=found)
    _run(
        task,
        out,
        chosen.steps,
        minutes,
        asdict(chosen) | {"renders": task.sampler.renders.count, "alarms": bool(alarms)},
        "faces",
    )


def _run(task: Task, out: Path, steps: int, minutes: float | None, settings: dict[str, Any], kind: str) -> None:
    from garfast.train.loop import LoopConfig, train, write_settings

    write_settings(out, settings)
    done = train(task, LoopConfig(out, steps, minutes=minutes))
    path = out / f"{kind}.safetensors"
    digest = task.export(path, {"steps": done, **settings})
    state = "finished" if done == steps else f"stopped at step {done} of {steps}: the same command goes on"
    click.echo(f"{state}; weights in {path} (sha256 {digest[:16]}), curves and logs beside them")
