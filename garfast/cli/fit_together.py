"""What ``garfast fit`` does with films and with several photographs of one person."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from garfast.errors import ArgumentError, OutputError
from garfast.io.atomic import check_free, check_writable

if TYPE_CHECKING:
    from tqdm import tqdm

    from garfast.fit.pipeline import Fitter


def fit_film(
    film: Path,
    frames: list[Path] | None,
    folder: Path,
    make_fitter: Callable[[], Fitter],
    *,
    projection: str,
    smoothing: float,
    fps: float | None,
    batch: int,
    overwrite: bool,
) -> str:
    """Fit the face of a film, or of frames in files, into ``folder``; returns what to tell the user.

    With a renderer the fit goes on as `garfast.fit.sequence_refine` does, ``batch`` frames at a time.

    Raises:
        GarfastError: one sentence each.
    """
    from tqdm import tqdm

    from garfast.fit.sequence import described, fit_sequence, track
    from garfast.fit.sequence_output import SEQUENCE_FILE, is_sequence, save_sequence
    from garfast.io.images import read_image
    from garfast.io.video import DEFAULT_FPS, open_video

    if (folder / SEQUENCE_FILE).is_file() and not overwrite:
        _check_same_film(film, frames, folder)
        return f"{film}: done already in {folder} (--overwrite to fit it again)"
    check_writable(folder.parent)
    check_free(folder, replace=overwrite and is_sequence(folder))
    fitter = make_fitter()
    if fps is None:
        fps = DEFAULT_FPS if frames is not None else open_video(film).fps

    def pictures() -> Iterator[np.ndarray]:
        return open_video(film).frames if frames is None else (read_image(frame) for frame in frames)

    total = None if frames is None else len(frames)
    with tqdm(total=total, desc="find", unit="frame", disable=None) as bar:
        found, size, reasons = track(
            pictures(),
            lambda frame, number: fitter.detect(frame, None if frames is None else frames[number]),
            progress=bar.update,
        )
    sequence = fit_sequence(fitter.model, found, size, fps=fps, smoothing=smoothing, projection=projection)
    sequence = replace(sequence, reasons=reasons)
    if fitter.renderer is not None:
        from garfast.fit.sequence_refine import refine_sequence

        with closing(_Bars()) as bars:
            sequence = refine_sequence(
                fitter.model, sequence, pictures, fitter.renderer, fitter.refinement, batch=batch, progress=bars
            )
    with tqdm(total=len(sequence), desc="draw", unit="frame", disable=None) as bar:
        save_sequence(sequence, folder, pictures, source=film, sources=frames, overwrite=overwrite, progress=bar.update)
    nme = 100 * float(np.nanmean(sequence.nme))
    lines = [
        f"{film.name}: {len(sequence)} frames, {fps:g} a second, {size[1]} x {size[0]} pixels",
        f"  landmarks  from {sequence.detector}, residual {nme:.2f} % of the face",
    ]
    if sequence.refinement is not None:
        kept = "kept" if sequence.refinement["kept"] else "not kept"
        lines.append(f"  refinement {kept}: {sequence.refinement['reason']} (means over the frames)")
        if "warning" in sequence.refinement:
            lines.append(f"  warning    {sequence.refinement['warning']}")
    lost = described(sequence)
    return "\n".join([*fitter.notes, *lines, f"  written    {folder}", *([f"  lost       {lost}"] if lost else [])])


def _check_same_film(film: Path, frames: Sequence[Path] | None, folder: Path) -> None:
    from garfast.fit.sequence_output import SEQUENCE_FILE
    from garfast.io.digest import film_digest

    try:
        recorded = dict(json.loads((folder / SEQUENCE_FILE).read_text())["film"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    digest = film_digest(film, frames)
    if frames is None:
        same = digest is None or recorded.get("sha256") in (None, digest)
    else:
        same = recorded.get("file") == os.path.abspath(film) and recorded.get("sha256") == digest
    if not same:
        raise OutputError(
            f"{folder} holds the fit of another film or of an earlier state of this one: choose another output folder, "
            "or --overwrite"
        )


class _Bars:
    """A bar for each part of a work, one after the other."""

    def __init__(self) -> None:
        self.what = ""
        self.bar: tqdm[Any] | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self.bar is None or what != self.what:
            self.close()
            unit = "step" if what == "shape" else "frame"
            self.what, self.bar = what, tqdm(total=total, desc=what, unit=unit, disable=None)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Finish the bar that is there."""
        if self.bar is not None:
            self.bar.close()


def frame_files(inputs: tuple[str, ...]) -> list[Path]:
    """The frames that a folder, a pattern or files mean, numbers in their names counted as numbers.

    Raises:
        ImageFileError: there are none.
        ArgumentError: they lie in several folders, whose frames have no order.
    """
    from garfast.fit.batch import find_images
    from garfast.io.video import is_video

    files = find_images(inputs)
    films = [file for file in files if is_video(file)]
    if films:
        raise ArgumentError(f"{films[0]} is a film, whose frames need no --sequence: leave that out")
    folders = sorted({str(file.parent.resolve()) for file in files})
    if len(folders) > 1:
        raise ArgumentError(
            f"a sequence's frames lie in one folder, not in {folders[0]} and {folders[1]}: fit each by a command"
        )

    def natural(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    return sorted(files, key=natural)


def films_among(inputs: tuple[str, ...]) -> list[Path]:
    """The films among the inputs, files or patterns.

    Raises:
        ArgumentError: there are films and photographs.
    """
    from garfast.io.video import is_video

    files = [
        path
        for entry in inputs
        for path in ([entry] if Path(entry).exists() else sorted(glob.glob(entry, recursive=True)) or [entry])
    ]
    films = [Path(path) for path in files if is_video(path)]
    if films and len(films) < len(files):
        raise ArgumentError("films and photographs cannot be fitted in one go: give them to two commands")
    return films


def check_alone(name: str, others: dict[str, bool]) -> None:
    """See that an option is not given with those that it excludes.

    Raises:
        click.UsageError: it is.
    """
    for other, given in others.items():
        if given:
            raise click.UsageError(f"{name} and {other} exclude each other.")
