"""Puts many photographs on the 68-landmark template, for trainings: parallel, resumable, with a list of failures."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from garfast.errors import ArgumentError, GarfastError, ImageFileError, NoFaceError, OutputError
from garfast.fit.names import face_name, taken_names
from garfast.io.atomic import atomic_path
from garfast.io.images import IMAGE_SUFFIXES, is_image, read_image, write_image
from garfast.io.processes import worker_pool
from garfast.landmarks import Detection, detect, select_faces
from garfast.landmarks.alignment import align_images, align_landmarks

MANIFEST = "align.json"
FAILURES = "failures.csv"
_PADDINGS = ("reflection", "border", "zeros")


@dataclass(frozen=True, kw_only=True)
class AlignPlan:
    """How photographs are aligned. A folder is continued only by the same plan.

    Attributes:
        size: side of the aligned pictures, pixels.
        landmarks: where landmarks come from, see ``garfast.landmarks.detect``.
        face: 'largest', 'all', or a number from 1, the largest.
        smallest: faces whose aligned square has fewer pixels a side in the photograph are left out; 0 takes all.
        suffix: '.png', '.jpg' or '.webp'.
        quality: of JPEG and WebP, 1..100.
        padding: what lies outside the photograph: 'reflection', 'border' or 'zeros'.
        device: of the landmark network.

    Raises:
        ArgumentError: a value makes no sense.
    """

    size: int = 256
    landmarks: str = "auto"
    face: int | str = "largest"
    smallest: float = 0.0
    suffix: str = ".png"
    quality: int = 95
    padding: str = "reflection"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 4096:
            raise ArgumentError(f"the size of aligned pictures must lie in 16..4096, not {self.size}")
        if self.suffix not in (".png", ".jpg", ".webp") or self.padding not in _PADDINGS:
            raise ArgumentError(f"aligned pictures cannot be {self.suffix} files padded by {self.padding!r}")
        select_faces(range(1, 10_000), self.face)  # says what is wrong with it


@dataclass
class AlignReport:
    """What became of the photographs.

    Attributes:
        photographs: how many there were.
        skipped: how many were done by an earlier run.
        faces: how many faces were written now.
        failed: photographs and the sentence that says why; one with several faces may have several.
    """

    photographs: int = 0
    skipped: int = 0
    faces: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


def find_photographs(inputs: Iterable[str | os.PathLike[str]]) -> dict[Path, str]:
    """The photographs that files, folders (with the folders in them) and patterns mean, each only once.

    Returns:
        For each file its name in the output folder, without suffix: its path within the folder that was given.

    Raises:
        ImageFileError: an input that holds no photograph.
    """
    found: dict[Path, str] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            files = sorted(Path(place) / name for place, _, names in os.walk(entry, followlinks=True) for name in names)
            files = [file for file in files if is_image(file)]
            base = entry
        elif not entry.exists() and glob.has_magic(str(entry)):
            files = sorted(file for file in map(Path, glob.glob(str(entry), recursive=True)) if is_image(file))
            base = Path(os.path.commonpath([file.parent for file in files])) if files else entry
        else:
            files, base = [entry], entry.parent
        if not files:
            raise ImageFileError(f"there is no photograph in {entry}: expected {', '.join(IMAGE_SUFFIXES[:6])}")
        for file in files:
            found.setdefault(file, file.relative_to(base).with_suffix("").as_posix())
    shared = taken_names(found.values())
    names: dict[Path, str] = {}
    used: set[str] = set()
    for file, name in found.items():
        name = f"{name}-{file.suffix[1:]}" if name in shared else name
        number = 1
        while (unique := name if number == 1 else f"{name}-{number}") in used:
            number += 1
        names[file] = unique
        used.add(unique)
    return names


def align_photographs(
    photographs: dict[Path, str],
    out: str | os.PathLike[str],
    plan: AlignPlan,
    *,
    workers: int = 1,
    progress: bool = True,
) -> AlignReport:
    """Align photographs into a folder; one that fails does not stop the others.

    Each face becomes NAME.png and NAME.json, a second one NAME-face2.png and so on. The .json holds the picture's own
    68 ``landmarks`` (so it is a landmark file of the picture), those in the photograph, and the similarity between
    them. A photograph whose files are there already is skipped. failures.csv lists what failed in this run.

    Args:
        photographs: files and their names, as :func:`find_photographs` gives them.
        out: the output folder.
        plan: how.
        workers: processes, each with one thread; 1 works in this process.
        progress: show a bar.

    Raises:
        ArgumentError: no workers.
        OutputError: the folder was filled by another plan, or cannot be written.
    """
    if workers < 1:
        raise ArgumentError(f"at least one worker is needed, got {workers}")
    from tqdm import tqdm

    target = Path(out)
    _claim(plan, target)
    todo = [(file, name) for file, name in photographs.items() if not _is_done(file, target, name, plan)]
    report = AlignReport(len(photographs), len(photographs) - len(todo))
    run = _one_by_one if workers == 1 else _in_parallel
    try:
        with tqdm(total=len(photographs), initial=report.skipped, unit="photo", disable=not progress) as bar:
            for file, faces, reasons in run(todo, target, plan, min(workers, max(len(todo), 1))):
                report.faces += faces
                report.failed += [(file, reason) for reason in reasons]
                bar.update()
                if reasons:
                    bar.set_postfix(failed=len(report.failed))
    finally:
        _write_failures(target, report.failed)
    return report


def align_photograph(photo: np.ndarray, detection: Detection, plan: AlignPlan) -> tuple[np.ndarray, dict[str, Any]]:
    """One face on the template: the picture, uint8 [size, size, 3], and what its .json says.

    Args:
        photo: uint8 [H, W, 3].
        detection: the face.
        plan: how.

    Raises:
        LandmarkError: its landmarks lie in one place.
        NoFaceError: it is smaller than the plan's ``smallest``.
    """
    points = torch.from_numpy(detection.landmarks).double()[None]
    alignment = align_landmarks(points, plan.size)
    side = plan.size / float(alignment.scale[0])
    if side < plan.smallest:
        raise NoFaceError(f"the face is too small: {side:.0f} pixels a side, {plan.smallest:.0f} are asked for")
    image = torch.from_numpy(photo).permute(2, 0, 1)[None].float()
    aligned = align_images(image, alignment, padding=plan.padding)[0].round().clamp(0, 255).to(torch.uint8)
    facts = {
        "landmarks": _numbers(alignment.apply(points)[0]),
        "photo_landmarks": _numbers(points[0]),
        "landmarks_score": [round(float(score), 4) for score in detection.landmarks_score],
        "matrix": [[float(value) for value in row] for row in alignment.matrix[0]],
        "photo_size": [int(photo.shape[1]), int(photo.shape[0])],
        "side": round(side, 2),
        "score": round(float(detection.score), 4),
        "source": detection.source,
        "contour": detection.contour,
    }
    return aligned.permute(1, 2, 0).contiguous().numpy(), facts


def _numbers(points: torch.Tensor) -> list[list[float | None]]:
    return [[None if value != value else round(value, 3) for value in point] for point in points.tolist()]


def _align_file(file: Path, target: Path, name: str, plan: AlignPlan) -> tuple[int, list[str]]:
    """Number of faces written, and what went wrong; the largest face's .json comes last and marks the photo as done."""
    try:
        photo = read_image(file)
        detections = detect(photo, plan.landmarks, file, plan.device)
        numbers = select_faces(range(1, len(detections) + 1), plan.face)
        stems = {number: target / face_name(name, number) for number in numbers} | {numbers[0]: target / name}
        for stem in stems.values():
            _refuse_another(file, stem)
        reasons, written = [], 0
        for number, stem in reversed(stems.items()):
            try:
                picture, facts = align_photograph(photo, detections[number - 1], plan)
            except GarfastError as error:
                reasons.append(str(error) if len(numbers) == 1 else f"face {number}: {error}")
                continue
            write_image(stem.with_name(stem.name + plan.suffix), picture, quality=plan.quality)
            facts |= {"photo": str(file.resolve()), "photo_bytes": file.stat().st_size}
            facts |= {"face": number, "faces": len(detections)}
            with atomic_path(stem.with_name(stem.name + ".json")) as temporary:
                temporary.write_text(json.dumps(facts) + "\n")
            written += 1
        return written, reasons[::-1]
    except OutputError:
        raise
    except GarfastError as error:
        return 0, [str(error)]
    except Exception as error:  # a fault of ours, or no memory: it must not cost the photographs that follow
        return 0, [f"an unexpected {type(error).__name__} ({str(error).partition(chr(10))[0]}): please report it"]


_Outcome = tuple[Path, int, list[str]]


def _one_by_one(todo: Sequence[tuple[Path, str]], target: Path, plan: AlignPlan, workers: int) -> Iterator[_Outcome]:
    for file, name in todo:
        yield (file, *_align_file(file, target, name, plan))


def _in_parallel(todo: Sequence[tuple[Path, str]], target: Path, plan: AlignPlan, workers: int) -> Iterator[_Outcome]:
    with worker_pool(workers) as pool:
        files: dict[Future[tuple[int, list[str]]], Path] = {}
        waiting = iter(todo)
        while True:
            # A few ahead of the workers; a million futures would take their time and memory.
            while len(files) < 4 * workers and (pair := next(waiting, None)) is not None:
                files[pool.submit(_align_file, pair[0], target, pair[1], plan)] = pair[0]
            if not files:
                return
            done, _ = wait(files, return_when=FIRST_COMPLETED)
            for future in done:
                yield (files.pop(future), *future.result())


def _claim(plan: AlignPlan, target: Path) -> None:
    values = {name: value for name, value in asdict(plan).items() if name != "device"}
    text = json.dumps({"format": "garfast aligned photographs", "version": 1, **values}, indent=1) + "\n"
    path = target / MANIFEST
    if path.is_file():
        if path.read_text() != text:
            raise OutputError(
                f"{target} holds photographs aligned with other settings (see {MANIFEST}): choose another folder"
            )
        return
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _recorded(path: Path) -> tuple[Path, int] | None:
    """The photograph that a face's .json names, and its bytes; None where there is no such file."""
    try:
        facts = json.loads(path.read_text())
        return Path(facts["photo"]).resolve(), int(facts["photo_bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse_another(file: Path, stem: Path) -> None:
    """See that a face's files are not those of another photograph, of the same name in another folder.

    Raises:
        ImageFileError: they are.
    """
    recorded = _recorded(stem.with_name(stem.name + ".json"))
    if recorded is not None and recorded[0] != file.resolve():
        raise ImageFileError(f"{stem} holds the face of {recorded[0]}, not of {file}: choose another output folder")


def _is_done(file: Path, target: Path, name: str, plan: AlignPlan) -> bool:
    path = target / f"{name}.json"
    try:
        # A file that was replaced is aligned again.
        same = _recorded(path) == (file.resolve(), file.stat().st_size)
    except OSError:
        return False
    return same and path.with_name(f"{path.stem}{plan.suffix}").is_file()


def _write_failures(target: Path, failed: Sequence[tuple[Path, str]]) -> None:
    path = target / FAILURES
    if not failed:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, open(temporary, "w", newline="", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "reason"])
        writer.writerows(sorted((str(name), reason) for name, reason in failed))
