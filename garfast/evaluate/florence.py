"""The Florence protocol: faces from frames of videos against 3D scans. What `garfast eval florence` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from garfast.errors import EvaluationError, GarfastError
from garfast.evaluate.face_error import NOSE_TIP
from garfast.evaluate.scans import (
    MESH_SUFFIXES,
    Floats,
    Mesh,
    ScanConfig,
    ScanError,
    average_meshes,
    nose_tip,
    read_mesh,
    read_point,
    scan_error,
)
from garfast.evaluate.statistics import markdown_table, summarise, write_csv, write_json, write_text
from garfast.io.images import is_image
from garfast.io.parameters import FILE_NAME, load_parameters
from garfast.morphable import MorphableModel, load_model

CONDITIONS = ("cooperative", "indoor", "outdoor")

ShapeFit = Callable[[Path], np.ndarray]
"""From a photograph to identity coefficients [S]."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted neutral face: mesh, tip of the nose, and from how many frames it is averaged."""

    mesh: Mesh
    nose: Floats
    frames: int


@dataclass(frozen=True)
class FlorenceResult:
    """One subject in one condition.

    Attributes:
        condition: such as 'indoor'.
        subject: name of the folder.
        error: None where it failed.
        frames: averaged.
        failure: why, one sentence.
    """

    condition: str
    subject: str
    error: ScanError | None
    frames: int = 0
    failure: str | None = None


def find_subjects(folder: str | os.PathLike[str]) -> list[tuple[str, Path]]:
    """Conditions and folders of subjects: ``FOLDER/CONDITION/SUBJECT/``, the Florence conditions first.

    Raises:
        EvaluationError: there is none.
    """
    root = Path(folder)
    if not root.is_dir():
        raise EvaluationError(f"{root} is not a folder: CONDITION/SUBJECT/ folders of frames were expected in one")
    conditions = sorted(
        (path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")),
        key=lambda path: (_rank(path.name), path.name),
    )
    subjects = [
        (condition.name, subject)
        for condition in conditions
        for subject in sorted(condition.iterdir())
        if subject.is_dir() and not subject.name.startswith(".")
    ]
    if not subjects:
        raise EvaluationError(f"{root} holds no CONDITION/SUBJECT/ folders, such as indoor/subject_01/")
    return subjects


def predict(
    folder: Path, *, frames: int = 5, model: MorphableModel | None = None, fit: ShapeFit | None = None
) -> Prediction:
    """The neutral face of a subject, averaged over frames.

    Args:
        folder: holds one of: results of ``garfast fit`` (folders with params.json; their identity coefficients are
            averaged), meshes of one topology (averaged after rigid alignment), photographs (fitted first).
        frames: at most so many, spread evenly over those there are by name.
        model: face model of the photographs.
        fit: fits a photograph.

    Raises:
        EvaluationError: the folder holds none of these, or no frame can be used.
        GarfastError: what reading raises.
    """
    fitted = sorted(path.parent for path in folder.glob(f"*/{FILE_NAME}"))
    meshes = sorted(path for path in folder.iterdir() if path.suffix.lower() in MESH_SUFFIXES)
    photos = sorted(path for path in folder.iterdir() if is_image(path))
    if fitted:
        chosen = [load_parameters(path) for path in spread(fitted, frames)]
        names = {str(p.model["name"]) for p in chosen}
        if len(names) > 1:
            raise EvaluationError(f"{folder} holds fits of several models: {', '.join(sorted(names))}")
        loaded = model if model is not None and model.name in names else load_model(names.pop())
        return from_shape(loaded, np.mean([p.shape for p in chosen], axis=0), len(chosen))
    if meshes:
        chosen_meshes = [read_mesh(path) for path in spread(meshes, frames)]
        mesh = average_meshes(chosen_meshes)
        beside = folder / "nose.txt"
        nose = read_point(beside) if beside.is_file() else nose_tip(mesh.vertices)
        return Prediction(mesh, nose, len(chosen_meshes))
    if photos:
        if model is None or fit is None:
            raise EvaluationError(f"{folder} holds photographs, and nothing was given to fit them with")
        shapes, reasons = [], []
        for path in spread(photos, frames):
            try:
                shapes.append(fit(path))
            except GarfastError as error:
                reasons.append(f"{path.name}: {error}")
        if not shapes:
            raise EvaluationError(f"no frame in {folder} could be fitted; {reasons[0]}")
        return from_shape(model, np.mean(shapes, axis=0), len(shapes))
    raise EvaluationError(f"{folder} holds no frames: photographs, meshes or results of `garfast fit` were expected")


def from_shape(model: MorphableModel, shape: np.ndarray, frames: int) -> Prediction:
    """The neutral face of identity coefficients [S]."""
    import torch

    from garfast.evaluate.face_error import FaceRegion

    vertices = model.evaluate(torch.from_numpy(np.asarray(shape, np.float32)).to(model.device))
    nose = model.landmarks(vertices)[0, NOSE_TIP].double().cpu().numpy()
    # Eyeballs and the inside of the mouth are no part of the surface that a scanner sees.
    triangles = FaceRegion.of(model).triangles
    return Prediction(Mesh(vertices[0].double().cpu().numpy(), triangles), nose, frames)


def find_scan(folder: str | os.PathLike[str], subject: str) -> tuple[Mesh, Floats]:
    """A subject's scan and the tip of its nose.

    The scan is ``FOLDER/SUBJECT.obj`` (or another kind of mesh), or the first mesh by name anywhere in
    ``FOLDER/SUBJECT/``. The tip of the nose is in ``NAME.nose.txt`` beside it, else it is searched (see `nose_tip`).

    Raises:
        EvaluationError: there is none, or it cannot be read.
    """
    root = Path(folder)
    candidates = [root / f"{subject}{suffix}" for suffix in MESH_SUFFIXES]
    candidates += sorted(p for p in (root / subject).rglob("*") if p.suffix.lower() in MESH_SUFFIXES)
    path = next((p for p in candidates if p.is_file()), None)
    if path is None:
        raise EvaluationError(f"there is no scan of '{subject}' in {root}: {subject}.obj or {subject}/ was expected")
    mesh = read_mesh(path)
    beside = path.with_name(f"{path.stem}.nose.txt")
    return mesh, read_point(beside) if beside.is_file() else nose_tip(mesh.vertices)


def evaluate_florence(
    subjects: Sequence[tuple[str, Path]],
    scans: str | os.PathLike[str],
    *,
    frames: int = 5,
    config: ScanConfig | None = None,
    model: MorphableModel | None = None,
    fit: ShapeFit | None = None,
    progress: bool = False,
) -> list[FlorenceResult]:
    """Predict and measure subjects; a failure is noted and does not stop the others."""
    from tqdm import tqdm

    results = []
    for condition, folder in tqdm(subjects, unit="subject", disable=not progress):
        try:
            scan, scan_nose = find_scan(scans, folder.name)
            face = predict(folder, frames=frames, model=model, fit=fit)
            error = scan_error(face.mesh, scan, face_nose=face.nose, scan_nose=scan_nose, config=config)
        except GarfastError as reason:
            results.append(FlorenceResult(condition, folder.name, None, failure=str(reason)))
        else:
            results.append(FlorenceResult(condition, folder.name, error, face.frames))
    return results


def write_florence_report(results: Sequence[FlorenceResult], folder: Path, settings: dict[str, Any]) -> str:
    """Write ``florence.json``, ``florence.csv`` and ``florence.md``; returns the Markdown text.

    Raises:
        OutputError: a file cannot be written.
    """
    conditions = sorted({r.condition for r in results}, key=lambda name: (_rank(name), name))
    summary: dict[str, Any] = {}
    table = []
    for condition in conditions:
        group = [r for r in results if r.condition == condition]
        errors = [r.error for r in group if r.error is not None]
        failed = len(group) - len(errors)
        if not errors:
            table.append([condition, *["–"] * 4, str(len(group)), str(failed)])
            summary[condition] = {"failures": failed}
            continue
        plane, surface = summarise([e.plane for e in errors]), summarise([e.surface for e in errors])
        summary[condition] = {"plane": plane.to_dict(), "surface": surface.to_dict(), "failures": failed}
        numbers = [f"{plane.mean:.2f} ± {plane.std:.2f}", f"{plane.median:.2f}", f"{plane.low:.2f} to {plane.high:.2f}"]
        table.append([condition, *numbers, f"{surface.mean:.2f}", str(len(group)), str(failed)])
    header = ["mm", "point to plane", "median", "95 % of the mean", "point to surface", "subjects", "failures"]
    lines = [markdown_table(header, table)]
    failures = [r for r in results if r.failure is not None]
    if failures:
        lines.append(
            f"{len(failures)} failed and are in no mean. The first: {failures[0].subject}: {failures[0].failure}"
        )
    text = "\n".join(lines) + "\n"
    write_json(
        folder / "florence.json", {"settings": settings, "summary": summary, "subjects": [asdict(r) for r in results]}
    )
    rows = [
        [
            r.condition,
            r.subject,
            r.frames,
            *(["", "", "", ""] if r.error is None else asdict(r.error).values()),
            r.failure,
        ]
        for r in results
    ]
    write_csv(
        folder / "florence.csv",
        ["condition", "subject", "frames", "plane", "surface", "rms", "scale", "failure"],
        rows,
    )
    write_text(folder / "florence.md", text)
    return text


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """At most ``count`` of the items, evenly spread, in order."""
    if len(items) <= count:
        return list(items)
    return [items[round(k)] for k in np.linspace(0, len(items) - 1, count)]


def _rank(condition: str) -> int:
    lower = condition.lower()
    return CONDITIONS.index(lower) if lower in CONDITIONS else len(CONDITIONS)
