"""A fitted film as a folder: numbers for people and programs, a mesh, and the film with the mesh over it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from garfast.fit.landmark_geometry import with_contour
from garfast.fit.latent import FRAMES, LATENTS, save_latent
from garfast.fit.rendering import Box, clay, rasterize_crop, shrink
from garfast.fit.sequence import FittedSequence
from garfast.fit.texture import sample_texture, unwrap
from garfast.io.atomic import atomic_folder, atomic_path, holds_only
from garfast.io.digest import film_digest
from garfast.io.images import write_image
from garfast.io.meshes import MeshArrays, write_glb
from garfast.io.parameters import FitParameters, save_json, save_parameters
from garfast.io.video import write_animation
from garfast.ops import vertex_normals

SEQUENCE_FILE = "sequence.json"
FORMAT, SCHEMA = "garfast-sequence", 1
SEQUENCE_FILES = {SEQUENCE_FILE, "sequence.npz", FRAMES, LATENTS, "mesh.glb", "mesh.png", "overlay.mp4", "overlay.gif"}

# Longest side of the overlay, and of its texture.
_SIDE, _TEXTURE = 640, 512
_OPACITY = 0.72
_LOST = (226, 60, 40)


def save_sequence(
    sequence: FittedSequence,
    folder: Path,
    frames: Callable[[], Iterable[np.ndarray]],
    *,
    source: Path,
    sources: list[Path] | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a film's fit into ``folder``, which appears whole or not at all.

    ``sequence.json`` (facts), ``sequence.npz`` (arrays over frames), ``params/000001.json`` ... (each frame as
    `garfast.io.parameters` reads it), ``mesh.glb`` (the neutral face, textured from the frame that shows it best) and
    ``overlay.mp4``, or ``overlay.gif`` where nothing here writes MP4. With a renderer also
    ``latents/000001.safetensors`` ... (style and noise of each frame that shows the face, `garfast.fit.latent`).

    Args:
        frames: gives the film's frames once more, uint8 [H,W,3].
        source: the film or the folder of frames.
        sources: of each frame, where they are files.
        overwrite: replace an earlier fit of a film.
        progress: called with 1 after each frame.

    Raises:
        OutputError: the folder exists already, or cannot be written.
    """
    with atomic_folder(folder, replace=overwrite and is_sequence(folder)) as staging:
        best = best_frame(sequence)
        kept: list[np.ndarray] = []

        def drawn() -> Iterator[np.ndarray]:
            for number, frame in enumerate(itertools.islice(frames(), len(sequence))):
                if number == best:
                    kept.append(frame)
                yield overlay(sequence, number, frame)
                if progress is not None:
                    progress(1)

        write_animation(staging / f"overlay{_suffix()}", drawn(), fps=sequence.fps)
        _write_mesh(sequence, best, kept[0], staging)
        for number in range(len(sequence)):
            name = source if sources is None else sources[number]
            save_parameters(staging / FRAMES / f"{number + 1:06d}.json", frame_parameters(sequence, number, name))
        for number, latent in enumerate(sequence.latents):
            if latent is not None:
                save_latent(staging / LATENTS / f"{number + 1:06d}.safetensors", latent)
        save_json(staging / SEQUENCE_FILE, _facts(sequence, source, film_digest(source, sources), best))
        with atomic_path(staging / "sequence.npz") as temporary:
            np.savez(temporary, **_arrays(sequence))
    return folder


def is_sequence(folder: Path) -> bool:
    """Whether `save_sequence` wrote a folder and all that is in it."""
    return (folder / SEQUENCE_FILE).is_file() and holds_only(folder, SEQUENCE_FILES)


def best_frame(sequence: FittedSequence) -> int:
    """The frame whose landmarks fit well in a face that looks into the camera."""
    facing = np.cos(np.linalg.norm(sequence.rotation, axis=1))
    badness = np.where(sequence.lost, np.inf, np.nan_to_num(sequence.nme, nan=np.inf) + 0.2 * (1 - facing))
    return int(badness.argmin())


@torch.no_grad()
def overlay(sequence: FittedSequence, number: int, frame: np.ndarray) -> np.ndarray:
    """A frame with the fitted mesh over it, uint8 [h,w,3]; with a red rim where the face was lost."""
    height, width = frame.shape[:2]
    factor = min(1.0, _SIDE / max(height, width))
    size = max(round(height * factor), 1), max(round(width * factor), 1)
    picture = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float() / 255
    if size != (height, width):
        picture = F.interpolate(picture, size, mode="bilinear", align_corners=False, antialias=True)
    face = sequence.face(number)
    box = Box(0.0, 0.0, width, height)
    output = rasterize_crop(face.vertices, face.model, face.camera, box, (2 * size[0], 2 * size[1]))
    cover = shrink(output.mask, 2)
    front = shrink(clay(output.normals) * output.mask, 2)
    picture = _OPACITY * front + (1 - _OPACITY * cover) * picture
    array = (picture[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    if sequence.lost[number]:
        rim = max(round(0.01 * max(size)), 2)
        array[:rim] = array[-rim:] = _LOST
        array[:, :rim] = array[:, -rim:] = _LOST
    return array


def frame_parameters(sequence: FittedSequence, number: int, source: Path) -> FitParameters:
    """One frame as ``params.json`` has a face."""
    face, model = sequence.face(number), sequence.model
    yaw, pitch, roll = face.angles
    # The jaw's landmarks lie on the outline, as in the fit of a photograph.
    contour = torch.from_numpy(sequence.evidence.contour_vertices[number : number + 1])
    points = with_contour(model.landmarks(face.vertices), face.vertices, contour)
    fitted = face.camera.project(points)[0].numpy()
    found = sequence.landmarks[number]
    height, width = face.camera.image_size
    return FitParameters(
        model={
            "name": model.name,
            "num_vertices": model.num_vertices,
            "num_shape": model.num_shape,
            "num_exp": model.num_exp,
            "exp_names": list(model.exp_names),
            "licence": model.licence,
        },
        shape=sequence.shape,
        exp=sequence.exp[number],
        pose={
            "rotation": sequence.rotation[number],
            "translation": sequence.translation[number],
            "yaw": yaw,
            "pitch": pitch,
            "roll": roll,
        },
        camera=face.camera.to_dict(),
        landmarks=found,
        landmarks_fitted=fitted,
        residuals=np.linalg.norm(found - fitted, axis=1).astype(np.float32),
        info={
            "image": {"file": os.path.abspath(source), "sha256": None, "width": width, "height": height},
            "frame": {"number": number + 1, "seconds": number / sequence.fps, "lost": bool(sequence.lost[number])},
            "opencv": face.camera.opencv_matrix(face.pose)[0],
            "opengl": face.camera.opengl_matrix(face.pose)[0],
            "intrinsics": face.camera.intrinsics()[0],
            "detector": {"source": sequence.detector},
            "stages": [{"name": s.name, "seconds": s.seconds, "losses": s.losses} for s in sequence.records[number]],
        },
    )


def _suffix() -> str:
    from garfast.errors import OutputError
    from garfast.io.video import check_mp4

    try:
        check_mp4()
    except OutputError:
        return ".gif"
    return ".mp4"


def _write_mesh(sequence: FittedSequence, best: int, frame: np.ndarray, folder: Path) -> None:
    model, face = sequence.model, sequence.face(best)
    texture = sample_texture(frame, face.vertices[0], model, face.camera, size=_TEXTURE)
    vertices = model.evaluate(face.shape)
    normals = vertex_normals(vertices, model.triangles, adjacency=model.adjacency)[0]
    uv, uv_triangles = unwrap(model)
    write_glb(
        folder / "mesh.glb",
        MeshArrays(
            vertices[0].numpy(), model.triangles.numpy(), normals.numpy(), uv.numpy(), uv_triangles.numpy(), texture
        ),
    )
    write_image(folder / "mesh.png", texture)


def _facts(sequence: FittedSequence, source: Path, digest: str | None, best: int) -> dict[str, Any]:
    height, width = sequence.camera.image_size
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "film": {
            "file": os.path.abspath(source),
            "sha256": digest,
            "frames": len(sequence),
            "fps": sequence.fps,
            "width": width,
            "height": height,
        },
        "model": sequence.model.name,
        "detector": sequence.detector,
        "smoothing_seconds": sequence.smoothing,
        "lost_frames": [number + 1 for number in np.flatnonzero(sequence.lost).tolist()],
        "lost_reasons": {number + 1: reason for number, reason in sequence.reasons.items()},
        "mean_nme": float(np.nanmean(sequence.nme)),
        "stages": list(dict.fromkeys(record.name for records in sequence.records for record in records)),
        "renderer": None
        if sequence.renderer is None
        else {"weights": sequence.renderer, "refinement": sequence.refinement},
        "texture_frame": best + 1,
        "shape": sequence.shape,
    }


def _arrays(sequence: FittedSequence) -> dict[str, Any]:
    camera = {
        name: np.asarray(value, np.float32)
        for name, value in sequence.camera.to_dict().items()
        if name not in ("projection", "image_size")
    }
    return {
        "shape": sequence.shape,
        "exp": sequence.exp,
        "rotation": sequence.rotation,
        "translation": sequence.translation,
        "landmarks": sequence.landmarks,
        "lost": sequence.lost,
        "nme": sequence.nme,
        "seconds": np.arange(len(sequence), dtype=np.float32) / np.float32(sequence.fps),
        "image_size": np.asarray(sequence.camera.image_size),
        "projection": np.asarray(sequence.camera.projection),
        **{f"camera_{name}": value for name, value in camera.items()},
    }
