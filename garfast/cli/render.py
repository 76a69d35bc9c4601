"""``garfast render``: pictures of a face from its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from garfast.cli.face_options import change_options, load_look, parse_size, settings_of
from garfast.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np

    from garfast.fit.saved_face import Face, SavedFace

MODES = ("shaded", "textured", "normals", "renderer")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("result", required=False, metavar="[RESULT]")
@click.option("-o", "--output", required=True, metavar="FILE", help="The picture to write, .png or .jpg.")
@click.option("--mode", type=click.Choice(MODES), default="shaded", show_default=True, help="What to draw.")
@click.option("--size", metavar="N|WxH", help="Pixels; default 512, or the photograph's with --view photo.")
@click.option(
    "--view",
    type=click.Choice(["face", "photo"]),
    default="face",
    show_default=True,
    help="A square around the head, or all of the photograph's view.",
)
@change_options
@click.option("--model", metavar="NAME|PATH", help="Face model. Default: that of RESULT, else the default model.")
@click.option("--weights", metavar="FOLDER", help="The renderer's networks. Default: those that come with the package.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of style and noise, for the renderer without RESULT.",
)
def command(
    result: str | None,
    output: str,
    mode: str,
    size: str | None,
    view: str,
    exp: tuple[str, ...],
    shape: tuple[str, ...],
    yaw: str | None,
    pitch: str | None,
    roll: str | None,
    model: str | None,
    weights: str | None,
    seed: int,
) -> None:
    """Draw a face from its parameters: RESULT is a folder that `garfast fit` wrote, or its params.json.

    Without RESULT, the model's mean face. Other coefficients and angles come from the options. The mode renderer draws
    with the renderer's networks, at their size: with style and noise of RESULT, or random ones (--seed).
    """
    from garfast.fit.edit_output import check_spared
    from garfast.fit.render import neutral_face, render_mesh
    from garfast.fit.saved_face import load_face
    from garfast.io.images import write_image
    from garfast.morphable import load_model

    settings = settings_of(exp, shape, yaw, pitch, roll)
    pixels = None if size is None else parse_size(size)
    saved = None if result is None else load_face(result, model=model)
    if saved is not None:
        check_spared(saved, Path(output))
    face = neutral_face(load_model(model).to("cpu")) if saved is None else saved.face
    face = face.changed(settings)
    if mode == "renderer":
        if view == "photo":
            raise ArgumentError("the renderer draws the face alone: leave out --view, or use `garfast edit`")
        picture = _with_renderer(saved, face, weights, seed, pixels)
    else:
        pixels = _view_size(face, view, size, pixels)
        texture = saved.texture if saved is not None and mode == "textured" else None
        picture = render_mesh(face, mode, pixels, view=view, texture=texture)
    write_image(output, picture)
    click.echo(f"{mode}, {picture.shape[1]} x {picture.shape[0]} pixels -> {output}")


def _view_size(face: Face, view: str, text: str | None, pixels: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of the picture; ``pixels`` is what --size says, ``text`` how."""
    height, width = face.camera.image_size if view == "photo" else (512, 512)
    if text is None or pixels is None:
        return height, width
    if "x" not in text.lower():
        scale = pixels[0] / max(height, width)
        return max(round(height * scale), 1), max(round(width * scale), 1)
    if view == "face" and pixels[0] != pixels[1]:
        raise ArgumentError(f"the view of the face is square: give one number as --size, not {text}")
    if abs(pixels[0] * width - pixels[1] * height) > max(height, width):
        raise ArgumentError(
            f"the photograph has {width} x {height} pixels: give one number as --size, its longest side"
        )
    return pixels


def _with_renderer(
    saved: SavedFace | None, face: Face, weights: str | None, seed: int, pixels: tuple[int, int] | None
) -> np.ndarray:
    from garfast.fit.edit import look_of, posed_alignment
    from garfast.fit.render import random_look, render_with, template_alignment
    from garfast.networks.renderer import load_renderer

    if saved is None:
        renderer = load_renderer(weights)
        look, alignment = random_look(renderer, seed), template_alignment(renderer, face)
    else:
        renderer, latent = load_look(saved, weights, otherwise="choose another --mode")
        look, alignment = look_of(renderer, latent), posed_alignment(latent.alignment, saved.face, face)
    if pixels not in (None, (renderer.size, renderer.size)):
        raise ArgumentError(f"the renderer draws {renderer.size} x {renderer.size} pixels: leave out --size")
    return render_with(renderer, face, alignment, look)
