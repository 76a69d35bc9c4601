"""Several photographs of one person: fitted together, with one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from garfast.errors import GarfastError, LandmarkError
from garfast.fit.batch import BatchReport, as_expected, output_names
from garfast.fit.landmarks_fit import check_face
from garfast.fit.output import is_fit, save_result
from garfast.fit.pipeline import Fitter, Job
from garfast.fit.result import FitResult
from garfast.io.atomic import check_free, check_writable
from garfast.io.images import read_image
from garfast.landmarks import select_faces


def fit_same_person(
    images: Sequence[Path],
    output: Path,
    make_fitter: Callable[[], Fitter],
    *,
    face: int | str = "largest",
    overwrite: bool = False,
    tell: Callable[[str], None] = print,
    done: Callable[[FitResult, Path], None] | None = None,
) -> BatchReport:
    """Fit photographs of one person into folders of ``output``; those without a face are left out.

    Args:
        images: files, at least two.
        make_fitter: makes a `Fitter` with ``shared_shape``.
        face: 'largest' or a number from 1: the person, in each photograph.
        overwrite: replace what earlier fits wrote.
        tell: prints one line, on each photograph that is left out.
        done: called with each result and its folder after writing.

    Raises:
        LandmarkError: fewer than two photographs are given, or show a face.
        OutputError: a folder holds other files than an earlier fit's.
        GarfastError: whatever fitting raises.
    """
    if len(images) < 2:
        raise LandmarkError("--same-person needs at least two photographs of the person")
    check_writable(output)
    folders_of = dict(zip(images, (output / name for name in output_names(images)), strict=True))
    for folder in folders_of.values():
        check_free(folder, replace=overwrite and is_fit(folder))
    select_faces(range(1, 1 << 20), face)  # what it cannot be is said before the work
    report = BatchReport()
    fitter = make_fitter()
    for note in fitter.notes:
        tell(note)
    jobs, folders = [], []
    for image, folder in folders_of.items():
        try:
            photo = read_image(image)
            detections = fitter.detect(photo, image)
            (index,) = select_faces(range(1, len(detections) + 1), face)
            check_face(detections[index - 1].landmarks, detections[index - 1].landmarks_score)
        except GarfastError as error:
            report.failed.append((image, str(error)))
            tell(f"{image}: {error}")
            continue
        jobs.append(Job(photo, detections[index - 1], image, index, len(detections)))
        folders.append(folder)
    if len(jobs) < 2:
        raise LandmarkError(
            f"only {len(jobs)} of {len(images)} photographs show the person's face: --same-person needs two"
        )
    for job, folder, outcome in zip(jobs, folders, fitter.fit_many(jobs), strict=True):
        assert job.source is not None
        try:
            if isinstance(outcome, GarfastError):
                raise outcome
            save_result(outcome, folder, overwrite=overwrite)
            report.written.append((job.source, folder))
            if done is not None:
                done(outcome, folder)
        except Exception as error:  # it must not cost the photographs that follow
            report.failed.append((job.source, str(as_expected(error))))
    return report
