"""``garfast model``: list, inspect, import and fetch face models."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from garfast.morphable import MorphableModel


@click.group(name="model")
def command() -> None:
    """List, inspect, import and fetch face models."""


@command.command(name="list", short_help="List the models.")
def list_command() -> None:
    """List the models that --model accepts by name; the default one is marked with a star."""
    from garfast.morphable import default_model_name, list_models, model_directory

    default = default_model_name()
    entries = list_models()
    for entry in entries:
        mark = "*" if entry.name == default else " "
        click.echo(f"{mark} {entry.name:<16} {entry.path or 'comes with garfast'}")
    if default not in [entry.name for entry in entries]:
        click.echo(f"* {default}{'' if Path(default).is_file() else '  (missing)'}")
    click.echo(f"\nImported models are in {model_directory()}.")


@command.command(name="info", short_help="Show what a model contains.")
@click.argument("name", metavar="[NAME|PATH]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info_command(name: str | None, as_json: bool) -> None:
    """Show what a model contains: counts, units, licence, sizes, ranges. Without NAME, the default model."""
    from garfast.morphable import load_model

    facts = describe(load_model(name))
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        click.echo(f"{key.replace('_', ' '):<{width}}  {_text(value)}")


@command.group(name="import", short_help="Import a model from a file or folder.")
def import_group() -> None:
    """Turn a face model from elsewhere into one that --model accepts by name."""


_name_option = click.option("--name", default=None, help="Name to give the model.")
_default_option = click.option("--default", "make_default", is_flag=True, help="Use it from now on without --model.")
_part_option = click.option(
    "--part",
    type=click.Choice(["all", "face"]),
    default="all",
    show_default=True,
    help="all: head, neck, mouth and eyes. face: the narrow face and the fronts of the eyes, smaller and faster.",
)


@import_group.command(name="ict", short_help="The ICT Face Model Light.")
@click.argument("path", type=click.Path(path_type=Path))
@_name_option
@_part_option
@_default_option
def import_ict_command(path: Path, name: str | None, part: Any, make_default: bool) -> None:
    """Import the ICT Face Model Light: the FaceXModel folder of ICT-FaceKit, or an .npz made from it."""
    from garfast.morphable.importers.ict import import_ict

    _store(import_ict(path, part), name or "ict", make_default)


@import_group.command(name="npz", short_help="A file in garfast's own format.")
@click.argument("path", type=click.Path(path_type=Path))
@_name_option
@_default_option
def import_npz_command(path: Path, name: str | None, make_default: bool) -> None:
    """Check a model file in garfast's own format (docs/models.md) and copy it to the other models."""
    from garfast.morphable import MorphableModel

    _store(MorphableModel.load(path), name or path.stem, make_default)


@command.group(name="download", short_help="Fetch a model and import it.")
def download_group() -> None:
    """Fetch a face model from where its authors publish it, and import it."""


@download_group.command(name="ict", short_help="The ICT Face Model Light.")
@_name_option
@_part_option
@_default_option
@click.option("--folder", type=click.Path(path_type=Path), help="Where to put the kit's files; implies --keep.")
@click.option("--keep", is_flag=True, help="Keep the kit's files after the import (about 530 MB).")
@click.option("--base-url", default=None, help="Another address of the repository's files, such as a mirror.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="Seconds to wait.")
def download_ict_command(
    name: str | None,
    part: Any,
    make_default: bool,
    folder: Path | None,
    keep: bool,
    base_url: str | None,
    timeout: float,
) -> None:
    """Fetch the ICT Face Model Light (MIT licence) from its public repository and import it.

    About 530 MB of text in 160 files; run it again to continue after an interruption.
    """
    from tqdm import tqdm

    from garfast.morphable import data_directory
    from garfast.morphable.importers.ict import import_ict
    from garfast.morphable.importers.ict_download import BASE_URL, COMMIT, download_ict

    target = folder or data_directory() / "downloads" / f"ict-facekit-{COMMIT[:8]}"
    click.echo(f"fetching the ICT Face Model Light to {target}")
    with tqdm(unit="file", desc="ICT-FaceKit", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        checked = download_ict(target, base_url=base_url or BASE_URL, timeout=timeout, progress=show)
    click.echo(
        "all files match the object ids that the repository lists"
        if checked
        else "the repository's list of object ids was not available: only the files' lengths were checked"
    )
    _store(import_ict(target, part), name or "ict", make_default)
    if not keep and folder is None:
        shutil.rmtree(target)


@command.command(name="default", short_help="Show or choose the default model.")
@click.argument("name", metavar="[NAME|PATH]", required=False)
def default_command(name: str | None) -> None:
    """Choose the model that is used without --model; without NAME, say which it is."""
    from garfast.morphable import default_model_name, set_default_model

    if name is not None:
        set_default_model(name)
    click.echo(default_model_name())
    if name is not None and (override := os.environ.get("GARFAST_MODEL")):
        click.echo(f"GARFAST_MODEL={override} overrides what was stored now: unset it.", err=True)


def describe(model: MorphableModel) -> dict[str, Any]:
    """What ``garfast model info`` shows, as plain values; lengths in millimetres."""
    low, high = model.mean.min(0).values, model.mean.max(0).values

    def largest(basis: Any) -> float:
        return round(float(basis.norm(dim=2).amax()), 2) if basis.shape[0] else 0.0

    return {
        "name": model.name,
        "source": model.source,
        "licence": model.licence,
        "units": model.units,
        "vertices": model.num_vertices,
        "triangles": model.triangles.shape[0],
        "bounding_box": {
            axis: [round(float(a), 1), round(float(b), 1)] for axis, a, b in zip("xyz", low, high, strict=True)
        },
        "shape_modes": model.num_shape,
        "shape_largest_move": largest(model.shape_basis),
        "exp_modes": model.num_exp,
        "exp_largest_move": largest(model.exp_basis),
        "shape_names": list(model.shape_names),
        "exp_names": list(model.exp_names),
        "exp_bounds": _bounds(model),
        "landmarks": 68,
        "jaw_candidates": [int(n) for n in (model.contour >= 0).sum(1)],
        "texture_coordinates": model.uv.shape[0],
        "mirror": model.mirror is not None,
        "regions": {name: int((mask > 0.5).sum()) for name, mask in model.regions.items()},
    }


def _bounds(model: MorphableModel) -> list[str]:
    """Each pair of bounds that occurs, with how many modes have it."""
    pairs = [tuple(pair) for pair in model.exp_bounds.tolist()]
    return [f"{low:g} to {high:g} ({pairs.count((low, high))} modes)" for low, high in dict.fromkeys(pairs)]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        if len(value) == 2 and all(isinstance(item, float) for item in value):
            return f"{value[0]} to {value[1]}"
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) or "not stated"


def _store(model: MorphableModel, name: str, make_default: bool) -> None:
    from garfast.morphable import set_default_model
    from garfast.morphable.registry import model_path

    path = model_path(name)
    if path.exists():
        click.echo(f"the model that was called {name} is replaced")
    replace(model, name=name).save(path)
    click.echo(
        f"{name}: {model.num_vertices} vertices, {model.num_shape} shape and {model.num_exp} expression modes -> {path}"
    )
    if make_default:
        set_default_model(name)
    else:
        click.echo(f"use it with --model {name}, or always: garfast model default {name}")
