"""``garfast edit``: a fitted face with another expression, pose or identity, back in its photograph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from garfast.cli.face_options import change_options, load_look, settings_of

if TYPE_CHECKING:
    from garfast.fit.edit import Editor, Look
    from garfast.fit.edit_output import Clip
    from garfast.fit.saved_face import Face, SavedFace

# Longest side of animations, unless --size says otherwise: a GIF of a large photograph has hundreds of megabytes.
ANIMATION_SIDE = 640


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("result", metavar="RESULT")
@click.option("-o", "--output", required=True, metavar="FOLDER|FILE", help="A folder, a picture, a .gif or an .mp4.")
@change_options
@click.option("--transfer-exp", metavar="RESULT", help="Take the expression of another fit first.")
@click.option("--sweep", multiple=True, metavar="WHAT=A:B:N", help="N frames from A to B, such as exp.smile=0:2:12.")
@click.option("--to", "target", metavar="RESULT", help="Go to the face of another fit, in --frames frames.")
@click.option("--frames", default=25, show_default=True, help="Frames of --to.")
@click.option("--fps", type=click.FloatRange(0.01), default=25.0, show_default=True, help="Of animations, a second.")
@click.option("--no-renderer", is_flag=True, help="Draw with photograph, texture and mesh only; needs no weights.")
@click.option("--weights", metavar="FOLDER", help="The renderer's networks. Default: those that come with the package.")
@click.option("--model", metavar="NAME|PATH", help="The model of the fit, where it is not an installed one.")
@click.option("--photo", metavar="FILE", help="The photograph, where it is no longer where it was.")
@click.option(
    "--size",
    type=click.IntRange(16),
    help="Longest side of the pictures, pixels; a smaller photograph stays as it is.  [default: the photograph's up "
    f"to 2048, with an animation up to {ANIMATION_SIDE}]",
)
@click.option("--overwrite", is_flag=True, help="Replace the folder of an earlier edit.")
def command(
    result: str,
    output: str,
    exp: tuple[str, ...],
    shape: tuple[str, ...],
    yaw: str | None,
    pitch: str | None,
    roll: str | None,
    transfer_exp: str | None,
    sweep: tuple[str, ...],
    target: str | None,
    frames: int,
    fps: float,
    no_renderer: bool,
    weights: str | None,
    model: str | None,
    photo: str | None,
    size: int | None,
    overwrite: bool,
) -> None:
    """Change the face of RESULT, a folder that `garfast fit` wrote, and lay it back into its photograph.

    \b
    garfast edit out/anna --exp smile=1.5 --yaw 20 -o smiling.png
    garfast edit out/anna --sweep yaw=-40:40:25 --sweep exp.smile=0:2:12 -o turn.gif
    garfast edit out/anna --to out/bert --frames 30 -o morph.mp4

    NAME=VALUE and --yaw 20 set a value, NAME+=VALUE and --yaw +=20 change it by as much (-= the other way).
    Expressions go by the model's names, without a side for both sides (smile, blink, mouthFrown), by friendly names
    that every model understands (smile, frown, open, blink, squint, wide, pucker, surprise, sneer ...) or by number.

    The renderer draws the edited face with the style and noise of the fit. With --no-renderer the photograph itself
    follows the mesh, and its texture fills in what the photograph does not show.

    A folder gets edited.png, sheet.png, mesh.glb and params.json (which `garfast render` reads), and with --sweep or
    --to frames/ and edited.gif. Animations run there and back.
    """
    from tqdm import tqdm

    from garfast.fit.animate import parse_sweep
    from garfast.fit.edit import Editor, with_expression
    from garfast.fit.edit_output import sweep_clip, write_edit
    from garfast.fit.saved_face import load_face
    from garfast.io.atomic import check_writable
    from garfast.io.video import ANIMATION_SUFFIXES, check_mp4

    path = Path(output)
    check_writable(path.parent)
    suffix = path.suffix.lower()
    if suffix == ".mp4":
        check_mp4()
    settings = settings_of(exp, shape, yaw, pitch, roll)
    sweeps = [parse_sweep(text) for text in sweep]
    if not (settings or sweeps or target or transfer_exp):
        raise click.UsageError(
            "say what to change: --exp, --shape, --yaw, --pitch, --roll, --transfer-exp, --sweep, --to."
        )
    saved = load_face(result, model=model, photo=photo)
    if size is None and (sweeps or target or suffix in ANIMATION_SUFFIXES):
        size = ANIMATION_SIDE
    if no_renderer:
        editor = Editor(saved, longest=size)
    else:
        editor = Editor(saved, *load_look(saved, weights, otherwise="--no-renderer"), longest=size)
    edited = editor.face
    if transfer_exp is not None:
        edited = with_expression(edited, load_face(transfer_exp, model=model).face)
    edited = edited.changed(settings) if settings else edited
    clips = [sweep_clip(item, edited) for item in sweeps]
    if target is not None:
        clips.append(_to(editor, edited, load_face(target, model=model), frames))
    pictures = sum(len(clip.faces) for clip in clips) + (suffix not in ANIMATION_SUFFIXES)
    label = ", ".join(str(setting) for setting in settings) or "edited"
    with tqdm(total=pictures, unit="picture", disable=None if pictures > 1 else True) as bar:
        write_edit(path, saved, editor, edited, clips, label=label, fps=fps, overwrite=overwrite, progress=bar.update)
    how = "photograph and texture" if no_renderer else "the renderer"
    click.echo(f"{pictures} picture{'s' if pictures > 1 else ''} drawn by {how} -> {path}")


def _to(editor: Editor, edited: Face, other: SavedFace, frames: int) -> Clip:
    """The transition to another fit, with its style where there is a renderer."""
    from garfast.fit.edit_output import transition_clip

    looks: tuple[Look, Look] | None = None
    if editor.renderer is not None:
        from garfast.fit.edit import look_of
        from garfast.fit.latent import load_latent

        assert editor.look is not None
        looks = editor.look, look_of(editor.renderer, load_latent(other.latent))
    return transition_clip(edited, other.face, looks, frames)
