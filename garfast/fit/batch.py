"""Many photographs: which files, which output folders, what is done already, what failed."""

from __future__ import annotations

import glob
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from garfast.errors import ArgumentError, GarfastError, ImageFileError, OutputError, ParametersFileError
from garfast.fit.names import face_name, taken_names
from garfast.fit.output import is_fit, save_result
from garfast.fit.pipeline import Fitter, Job
from garfast.fit.result import FitResult
from garfast.fit.sharing import Share
from garfast.io.atomic import check_free, check_writable
from garfast.io.digest import file_digest
from garfast.io.images import IMAGE_SUFFIXES, is_image, read_image
from garfast.io.parameters import FILE_NAME, FitParameters, load_parameters
from garfast.landmarks import select_faces

MOST_FACES = 10_000


@dataclass
class BatchReport:
    """What became of each photograph.

    Attributes:
        written: folders written, with their photographs.
        skipped: photographs whose fits were there already.
        failed: photographs and the sentence that says why.
    """

    written: list[tuple[Path, Path]] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def merged(self, others: Iterable[BatchReport]) -> BatchReport:
        """This report and others as one."""
        every = [self, *others]
        return BatchReport(
            [entry for report in every for entry in report.written],
            [entry for report in every for entry in report.skipped],
            [entry for report in every for entry in report.failed],
        )


def find_images(inputs: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The photographs that files, folders and patterns mean, in order and each only once.

    A folder stands for the image files directly in it, by name. What is neither a file nor a folder is taken as a
    pattern (``*``, ``?``, ``[...]``, ``**``) if it has such characters, else as a file, which then fails on reading.

    Raises:
        ImageFileError: a folder or a pattern without an image.
    """
    found: dict[Path, Path] = {}
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if is_image(p))
            if not files:
                raise ImageFileError(
                    f"there is no image in the folder {path}: expected files such as {', '.join(IMAGE_SUFFIXES[:6])}"
                )
        elif not path.exists() and glob.has_magic(os.fspath(entry)):
            files = sorted(p for p in map(Path, glob.glob(os.fspath(entry), recursive=True)) if is_image(p))
            if not files:
                raise ImageFileError(f"no image matches the pattern {entry}: check it, and quote it from the shell")
        else:
            files = [path]
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def output_names(images: Sequence[Path]) -> list[str]:
    """A folder name for each photograph: its name without suffix; where several share that, something longer."""
    # No name may lead out of the folder, as '..' does.
    names = [image.stem if image.stem.strip(".") else "photo" for image in images]
    for longer in (
        lambda image: image.name.replace(".", "-"),
        lambda image: f"{image.resolve().parent.name}-{image.stem}",
        lambda image: f"{image.resolve().parent.name}-{image.name.replace('.', '-')}",
    ):
        shared = taken_names(names)
        names = [longer(image) if name in shared else name for image, name in zip(images, names, strict=True)]
    shared, seen = taken_names(names), Counter[str]()
    for index, name in enumerate(names):
        if name in shared:
            seen[name] += 1
            names[index] = f"{name}-{seen[name]}"
    return names


def face_folder(folder: Path, face: int) -> Path:
    """Where face number ``face`` of a photograph goes whose largest face goes to ``folder``."""
    return folder.with_name(face_name(folder.name, face))


def fit_images(
    images: Sequence[Path],
    output: Path,
    make_fitter: Callable[[], Fitter],
    *,
    face: int | str = "all",
    overwrite: bool = False,
    batch: int = 1,
    progress: bool = True,
    tell: Callable[[str], None] = print,
    done: Callable[[FitResult, Path], None] | None = None,
    share: Share | None = None,
) -> BatchReport:
    """Fit photographs into folders of ``output``; a failure of one does not stop the others.

    A photograph is skipped if the folders of all its wanted faces are there and were made from the same file.

    Args:
        images: files, as `find_images` gives them.
        make_fitter: makes the `Fitter`; called only if there is something to do.
        face: 'all', 'largest' or a number from 1, the largest.
        overwrite: fit again, and replace what earlier fits wrote, also of further faces that are no longer found.
        batch: faces that are fitted together; more are faster on a GPU and need more memory.
        progress: whether to show a bar when there are several photographs and a terminal to show it on.
        tell: prints one line, on what is skipped, and with several photographs on what failed.
        done: called with each result and its folder after writing.
        share: this process's share of the photographs, where several share the work.

    Raises:
        ArgumentError: ``face`` is no such thing, or ``batch`` is not positive.
        OutputError: nothing can be written into ``output``.
        GarfastError: whatever making the fitter raises, such as an unknown model.
    """
    from tqdm import tqdm

    select_faces(range(1, MOST_FACES + 1), face)  # says what is wrong before any work is done
    check_writable(output)
    if batch < 1:
        raise ArgumentError(f"a batch has at least one face, not {batch}")
    report = BatchReport()

    def fail(image: Path, error: GarfastError) -> None:
        report.failed.append((image, str(error)))
        if len(images) > 1:
            tell(f"{image}: {error}")

    todo = []
    mine = list(zip(images, output_names(images), strict=True))
    for image, name in mine if share is None else mine[share.rank :: share.count]:
        try:
            if not overwrite and _is_done(image, output / name, face):
                report.skipped.append(image)
                tell(f"{image}: done already in {output / name} (--overwrite to fit it again)")
            else:
                _check_place(image, face_folder(output / name, _first_number(face)), overwrite)
                todo.append((image, output / name))
        except GarfastError as error:
            fail(image, error)
    if not todo:
        return report
    ready = make_fitter()
    for note in ready.notes:
        tell(note)
    waiting: list[tuple[Job, Path]] = []

    def flush() -> None:
        """Fit the faces that wait, and write them."""
        if not waiting:
            return
        now = waiting[:]
        waiting.clear()  # first: whatever happens to these, they have had their turn
        outcomes = _together(ready, [job for job, _ in now])
        for (job, target), outcome in zip(now, outcomes, strict=True):
            assert job.source is not None
            try:
                if isinstance(outcome, GarfastError):
                    raise outcome
                save_result(outcome, target, overwrite=overwrite)
                report.written.append((job.source, target))
                if overwrite and job.index == 1:
                    _remove_surplus(job.source, target, job.count)
                if done is not None:
                    done(outcome, target)
            except Exception as error:  # it must not cost the photographs that follow
                fail(job.source, as_expected(error))

    for image, folder in tqdm(todo, unit="photo", disable=None if progress and len(todo) > 1 else True):
        try:
            photo = read_image(image)
            detections = ready.detect(photo, image)
            for index in select_faces(range(1, len(detections) + 1), face):
                target = face_folder(folder, index)
                if not overwrite and _earlier_fit(image, target) is not None:
                    continue
                waiting.append((Job(photo, detections[index - 1], image, index, len(detections)), target))
                if len(waiting) == batch:
                    flush()
        except Exception as error:  # as above
            fail(image, as_expected(error))
    flush()
    return report


def _remove_surplus(image: Path, folder: Path, count: int) -> None:
    """Remove earlier fits of a photograph's faces beyond the ``count`` that it has now, and nothing else."""
    number = count + 1
    while (surplus := face_folder(folder, number)).is_dir():
        try:
            info = load_parameters(surplus).info
            same = Path(info["image"]["file"]).resolve() == image.resolve() and info["face"]["index"] == number
        except (ParametersFileError, KeyError, TypeError):
            same = False
        if same and is_fit(surplus):
            shutil.rmtree(surplus, ignore_errors=True)
        number += 1


def _together(fitter: Fitter, jobs: list[Job]) -> list[FitResult | GarfastError]:
    """Fit faces together; what makes all of them fail is the failure of each."""
    try:
        return fitter.fit_many(jobs)
    except Exception as error:  # as above
        return [as_expected(error)] * len(jobs)


def as_expected(error: Exception) -> GarfastError:
    """A failure in a sentence: as it is, or, where it is a fault of ours or no memory, what it is called."""
    if isinstance(error, GarfastError):
        return error
    what = f"{type(error).__name__} ({str(error).partition(chr(10))[0]})"
    return GarfastError(f"an unexpected {what}: please report it")


def _first_number(face: int | str) -> int:
    """Number of the first of the faces that are wanted."""
    return 1 if face in ("all", "largest") else int(face)


def _is_done(image: Path, folder: Path, face: int | str) -> bool:
    if face != "all":
        return _earlier_fit(image, face_folder(folder, _first_number(face))) is not None
    first = _earlier_fit(image, folder)
    if first is None:
        return False
    count = int(first.info.get("face", {}).get("count", 1))
    return all(_earlier_fit(image, face_folder(folder, number)) is not None for number in range(2, count + 1))


def _check_place(image: Path, folder: Path, overwrite: bool) -> None:
    """Say before the work what `save_result` would say after it.

    Raises:
        OutputError: the folder cannot be written, or holds what is not to be replaced.
    """
    fitted = is_fit(folder)
    if overwrite or not fitted:
        check_free(folder, replace=fitted)
    elif _earlier_fit(image, folder) is None:
        raise OutputError(f"{folder} holds a fit already, which cannot be read: --overwrite replaces it")


def _earlier_fit(image: Path, folder: Path) -> FitParameters | None:
    """The parameters in a folder if a fit of this very file wrote it, None if there is no fit.

    Raises:
        OutputError: the folder holds the fit of another photograph.
    """
    if not (folder / FILE_NAME).is_file():
        return None
    try:
        parameters = load_parameters(folder)
    except ParametersFileError:
        return None
    try:
        same = not image.is_file() or parameters.info.get("image", {}).get("sha256") == file_digest(image)
    except OSError as error:
        raise ImageFileError(f"cannot read {image}: {error.strerror or error}") from error
    if not same:
        raise OutputError(
            f"{folder} holds the fit of another photograph or of an earlier state of this one: choose another output "
            "folder, or --overwrite"
        )
    return parameters
