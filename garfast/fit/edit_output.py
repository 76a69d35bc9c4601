"""What ``garfast edit`` writes: one picture, an animation, or a folder with everything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from garfast.errors import ArgumentError, GarfastError
from garfast.fit.animate import Sweep, chosen, sheet, there_and_back, transition
from garfast.fit.edit import Editor, Look, moved_camera
from garfast.fit.output import OUTPUT_FILES
from garfast.fit.render import render_mesh
from garfast.fit.rendering import Box
from garfast.fit.saved_face import Face, SavedFace
from garfast.fit.sequence_output import SEQUENCE_FILES
from garfast.fit.texture import unwrap
from garfast.io.atomic import atomic_folder, check_free, holds_only
from garfast.io.images import write_image, written_format
from garfast.io.meshes import MeshArrays, write_glb
from garfast.io.parameters import FILE_NAME, FitParameters, load_parameters, save_parameters
from garfast.io.video import ANIMATION_SUFFIXES, write_animation
from garfast.ops import vertex_normals

# Tiles of one row of a sheet.
_TILES = 7
_FILES = {"edited.png", "sheet.png", "mesh.glb", "mesh.png", FILE_NAME, "frames", "edited.gif"}

# What is in the folders that faces come from: fits, films and edits.
_FITS = {*OUTPUT_FILES, *SEQUENCE_FILES, *_FILES}


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one sweep or transition: label, face and look of each."""

    title: str
    labels: Sequence[str]
    faces: Sequence[Face]
    looks: Sequence[Look | None]


def sweep_clip(sweep: Sweep, face: Face) -> Clip:
    """The frames of a sweep of a face."""
    name = ".".join(part for part in (sweep.kind, sweep.name) if part)
    labels = [f"{sweep.name or sweep.kind} {setting.value:.3g}" for setting in sweep.settings()]
    return Clip(name, labels, sweep.faces(face), [None] * sweep.count)


def transition_clip(first: Face, last: Face, looks: tuple[Look, Look] | None, count: int) -> Clip:
    """The frames from one face to another."""
    steps = transition(first, last, count)
    between = [None if looks is None else looks[0].toward(looks[1], share) for share, _ in steps]
    return Clip("to", [f"{share:.0%}" for share, _ in steps], [face for _, face in steps], between)


def write_edit(
    output: Path,
    saved: SavedFace,
    editor: Editor,
    edited: Face,
    clips: Sequence[Clip],
    *,
    label: str = "edited",
    fps: float = 25.0,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Draw and write an edit.

    Args:
        output: a picture (.png, .jpg ...): the edited photograph. An animation (.gif, .mp4): the clips one after the
            other, there and back. Else a folder: ``edited.png``, ``sheet.png``, ``mesh.glb`` and ``params.json`` of the
            edited face, and with clips ``frames/`` and ``edited.gif``.
        edited: the edited face, in the editor's pixels.
        progress: called with 1 for each picture drawn.

    Raises:
        ArgumentError: an animation without clips, or a picture of them; or see `check_spared`.
        OutputError: it cannot be written.
    """
    check_spared(saved, output)
    suffix = output.suffix.lower()
    if suffix in ANIMATION_SUFFIXES and not clips:
        raise ArgumentError(f"{output.name} is an animation: say what moves with --sweep or --to, or write a .png")
    is_picture = written_format(output) is not None and suffix not in ANIMATION_SUFFIXES
    if is_picture and clips:
        raise ArgumentError(f"{output.name} is one picture: write a sweep to a folder, a .gif or an .mp4")
    replaced = overwrite and _is_edit(output)
    if not (is_picture or suffix in ANIMATION_SUFFIXES):
        check_free(output, replace=replaced)
    titles = _titles(clips)
    drawn = [[_draw(editor, *frame, progress) for frame in zip(clip.faces, clip.looks, strict=True)] for clip in clips]
    moving = [frame for frames in drawn for frame in there_and_back(frames)]
    if suffix in ANIMATION_SUFFIXES:
        write_animation(output, moving, fps=fps)
        return
    picture = _draw(editor, edited, None, progress)
    if is_picture:
        write_image(output, picture)
        return
    with atomic_folder(output, replace=replaced) as staging:
        write_image(staging / "edited.png", picture)
        box = editor.face_box([editor.face, edited, *(face for clip in clips for face in clip.faces)])
        write_image(staging / "sheet.png", _sheet(editor, edited, picture, clips, drawn, box, label))
        write_glb(staging / "mesh.glb", _mesh(edited, editor))
        save_parameters(staging / FILE_NAME, _parameters(saved, edited, output / "edited.png"))
        write_image(staging / "mesh.png", _texture(editor))
        for title, frames in zip(titles, drawn, strict=True):
            for number, frame in enumerate(frames):
                folder = staging / "frames" / title if len(clips) > 1 else staging / "frames"
                write_image(folder / f"{number:04d}.png", frame)
        if clips:
            write_animation(staging / "edited.gif", moving, fps=fps)


def check_spared(saved: SavedFace, output: Path) -> None:
    """See that what is to be written is neither the photograph of a fit nor a file of the fit itself.

    Raises:
        ArgumentError: it is.
    """
    target = output.resolve()
    photographs = [path.resolve() for path in (saved.photo_path, saved.recorded_file) if path is not None]
    if target in photographs:
        raise ArgumentError(f"{output} is the photograph that was fitted: choose another name")
    if target.parent == saved.folder.resolve() and target.name in _FITS and target.is_file():
        raise ArgumentError(f"{output} is a file of the fit itself: choose another name")


def _is_edit(folder: Path) -> bool:
    """Whether an edit wrote a folder and all that is in it; one that a fit wrote is not replaced by an edit."""
    try:
        return "edited" in load_parameters(folder).info and holds_only(folder, _FILES)
    except GarfastError:
        return False


def _titles(clips: Sequence[Clip]) -> list[str]:
    """A folder's name for each clip; two of the same thing are numbered."""
    seen = Counter[str]()
    titles = []
    for clip in clips:
        seen[clip.title] += 1
        titles.append(clip.title if seen[clip.title] == 1 else f"{clip.title}-{seen[clip.title]}")
    return titles


def _draw(editor: Editor, face: Face, look: Look | None, progress: Callable[[int], None] | None) -> np.ndarray:
    picture = editor.picture(face, look)
    if progress is not None:
        progress(1)
    return picture


def _sheet(
    editor: Editor,
    edited: Face,
    picture: np.ndarray,
    clips: Sequence[Clip],
    drawn: Sequence[Sequence[np.ndarray]],
    box: Box,
    label: str,
) -> np.ndarray:
    """The photograph beside the edit, with the geometry of both; below, a row for each clip (the paper's figure 6)."""
    photo = (editor.photo * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    side = round(max(min(box.width, 448), 64))
    shaded = [_shaded(face, box, side) for face in (editor.face, edited)]
    first = [("photograph", crop(photo, box)), ("its geometry", shaded[0])]
    first += [(label, crop(picture, box)), ("edited geometry", shaded[1])]
    if editor.renderer is not None:
        first.append(("renderer", (editor.aligned(edited) * 255).byte().permute(1, 2, 0).numpy()))
    rows = [first] if edited is not editor.face or not clips else []
    for clip, frames in zip(clips, drawn, strict=True):
        rows.append([(clip.labels[k], crop(frames[k], box)) for k in chosen(len(frames), _TILES)])
    return sheet(rows)


def crop(picture: np.ndarray, box: Box) -> np.ndarray:
    """A square of a picture; beyond its edge the edge's colours go on."""
    side = max(round(box.width), 1)
    x0, y0 = round(box.x0), round(box.y0)
    rows = np.clip(np.arange(y0, y0 + side), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(x0, x0 + side), 0, picture.shape[1] - 1)
    return picture[rows[:, None], columns]


def _shaded(face: Face, box: Box, side: int) -> np.ndarray:
    """The clay picture of a face in a square of its photograph."""
    camera = moved_camera(face.camera, (-box.x0, -box.y0), side / box.width, (side, side))
    return render_mesh(replace(face, camera=camera), "shaded", (side, side), view="photo")


def _mesh(face: Face, editor: Editor) -> MeshArrays:
    model = face.model
    vertices = model.evaluate(face.shape, face.exp)
    normals = vertex_normals(vertices, model.triangles, adjacency=model.adjacency)[0]
    uv, uv_triangles = unwrap(model)
    return MeshArrays(
        vertices[0].numpy(),
        model.triangles.numpy(),
        normals.numpy(),
        uv.numpy(),
        uv_triangles.numpy(),
        _texture(editor),
    )


def _texture(editor: Editor) -> np.ndarray:
    return (editor.texture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _parameters(saved: SavedFace, edited: Face, picture: Path) -> FitParameters:
    """The fit's parameters after the edit, in pixels of the edited picture: what it shows can be edited again."""
    fitted = saved.parameters
    yaw, pitch, roll = edited.angles
    height, width = edited.camera.image_size
    return replace(
        fitted,
        shape=edited.shape[0].numpy(),
        exp=edited.exp[0].numpy(),
        pose={
            "rotation": edited.pose.rotation[0],
            "translation": edited.pose.translation[0],
            "yaw": yaw,
            "pitch": pitch,
            "roll": roll,
        },
        camera=edited.camera.to_dict(),
        landmarks=np.full_like(fitted.landmarks, np.nan),
        landmarks_fitted=edited.landmarks[0].numpy(),
        residuals=np.full_like(fitted.residuals, np.nan),
        info={
            **{name: fitted.info[name] for name in ("face", "detector", "versions") if name in fitted.info},
            "image": {"file": os.path.abspath(picture), "sha256": None, "width": width, "height": height},
            "opencv": edited.camera.opencv_matrix(edited.pose)[0],
            "opengl": edited.camera.opengl_matrix(edited.pose)[0],
            "intrinsics": edited.camera.intrinsics()[0],
            "edited": {"from": str(saved.folder)},
        },
    )
