"""Films and animations: frames in, GIF and MP4 out."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from garfast.errors import ArgumentError, ImageFileError, OutputError
from garfast.io.atomic import atomic_path

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
ANIMATION_SUFFIXES = (".gif", ".mp4")
DEFAULT_FPS = 25.0

_NO_DECODER = "install one with `pip install imageio-ffmpeg`, or give a folder of frames with --sequence"


class Video(NamedTuple):
    """An opened film.

    Attributes:
        fps: frames a second.
        frames: each uint8 [H,W,3] RGB, in order; to be walked through once.
    """

    fps: float
    frames: Iterator[np.ndarray]


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a film; an animated GIF counts as one."""
    path = Path(path)
    if path.is_dir():
        return False
    return path.suffix.lower() in VIDEO_SUFFIXES or (path.suffix.lower() == ".gif" and _animated(path))


def open_video(path: str | os.PathLike[str]) -> Video:
    """Open a film: GIF by Pillow, others by imageio-ffmpeg where it is installed, else by OpenCV.

    Raises:
        ImageFileError: the file is missing or cannot be decoded, or nothing here decodes films.
    """
    path = Path(path)
    if not path.is_file():
        raise ImageFileError(f"there is no film {path}: check the path")
    if path.suffix.lower() == ".gif":
        return _open_gif(path)
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return _open_opencv(path)
    return _open_ffmpeg(path, imageio_ffmpeg)


def write_animation(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], *, fps: float = DEFAULT_FPS, loop: bool = True
) -> None:
    """Write frames uint8 [H,W,3] of one size as GIF (by Pillow) or MP4 (H.264, by imageio-ffmpeg), atomically.

    Args:
        frames: taken one after the other; a GIF needs all of them in memory, as its colours are those of all.
        loop: GIF only: whether it starts again at its end.

    Raises:
        ArgumentError: there are no frames, they differ in size, or the suffix is neither .gif nor .mp4.
        OutputError: the file cannot be written, or nothing here encodes MP4.
    """
    path = Path(path)
    if not 0 < fps < math.inf:
        raise ArgumentError(f"an animation needs a positive number of frames a second, not {fps:g}")
    suffix = path.suffix.lower()
    if suffix not in ANIMATION_SUFFIXES:
        raise ArgumentError(f"cannot write an animation named {path.name}: use the suffix .gif or .mp4")
    if suffix == ".mp4":
        check_mp4()
    with atomic_path(path) as temporary:
        (_write_gif if suffix == ".gif" else _write_mp4)(temporary, _of_one_size(frames), fps, loop)


def _of_one_size(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for frame in frames:
        shape = shape or frame.shape
        if frame.shape != shape:
            break
        yield frame
    else:
        if shape is not None:
            return
    raise ArgumentError("an animation needs at least one frame, and all of one size")


def check_mp4() -> None:
    """See that MP4 can be written.

    Raises:
        OutputError: it cannot.
    """
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise OutputError(
            "writing MP4 needs imageio-ffmpeg: `pip install imageio-ffmpeg`, or write a .gif instead"
        ) from error


def _write_gif(path: Path, frames: Iterator[np.ndarray], fps: float, loop: bool) -> None:
    from PIL import Image

    pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    # One palette for all frames, else still parts flicker; taken from a mosaic of some of them.
    some = pictures[:: max(len(pictures) // 8, 1)]
    mosaic = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for row, picture in enumerate(some):
        mosaic.paste(picture, (0, row * picture.height))
    palette = mosaic.quantize(255, method=Image.Quantize.MEDIANCUT)
    # Ordered noise would crawl over still parts: error diffusion does so less.
    coded = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    again: dict[str, Any] = {"loop": 0} if loop else {}
    coded[0].save(path, save_all=True, append_images=coded[1:], duration=max(round(1000 / fps), 20), **again)


def _write_mp4(path: Path, frames: Iterator[np.ndarray], fps: float, loop: bool) -> None:
    import imageio_ffmpeg

    first = next(frames)
    height, width = first.shape[:2]
    # H.264 in the colour format that every player knows takes even sizes only.
    pad = ((0, height % 2), (0, width % 2), (0, 0))
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (width + width % 2, height + height % 2),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        quality=None,
        macro_block_size=1,
        output_params=["-crf", "18"],
    )

    def send(frame: np.ndarray | None) -> None:
        try:
            writer.send(frame)
        except (OSError, RuntimeError) as error:
            raise OutputError(f"cannot write {path.name}: the encoder failed, write a .gif instead") from error

    try:
        send(None)
        for frame in itertools.chain([first], frames):
            send(np.ascontiguousarray(np.pad(frame, pad, mode="edge")))
    finally:
        writer.close()


def _animated(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return bool(getattr(image, "is_animated", False))
    except (OSError, UnidentifiedImageError):
        return False


def _open_gif(path: Path) -> Video:
    from PIL import Image, ImageSequence, UnidentifiedImageError

    try:
        image = Image.open(path)
    except (OSError, UnidentifiedImageError) as error:
        raise ImageFileError(f"{path} is not a film that can be read") from error
    duration = float(image.info.get("duration") or 0)

    def frames() -> Iterator[np.ndarray]:
        try:
            with image:
                for frame in ImageSequence.Iterator(image):
                    yield np.array(frame.convert("RGB"))
        except (OSError, EOFError, ValueError) as error:
            raise ImageFileError(f"{path} is damaged: {error}") from error

    return Video(1000 / duration if duration > 0 else DEFAULT_FPS, frames())


def _open_ffmpeg(path: Path, imageio_ffmpeg: Any) -> Video:
    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        facts = next(reader)
    except (OSError, RuntimeError, StopIteration, KeyError, IndexError) as error:
        raise ImageFileError(f"{path} is not a film that can be decoded: convert it to MP4") from error
    width, height = facts["size"]

    def frames() -> Iterator[np.ndarray]:
        try:
            for frame in reader:
                yield np.frombuffer(frame, np.uint8).reshape(height, width, 3).copy()
        except (OSError, RuntimeError, ValueError) as error:
            raise ImageFileError(f"{path} is damaged: {str(error).partition(chr(10))[0]}") from error
        finally:
            reader.close()

    return Video(float(facts.get("fps") or DEFAULT_FPS), frames())


def _open_opencv(path: Path) -> Video:
    try:
        import cv2  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise ImageFileError(f"nothing here decodes films such as {path.name}: {_NO_DECODER}") from error
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise ImageFileError(f"{path} is not a film that can be decoded: {_NO_DECODER}")
    fps = float(capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS)

    def frames() -> Iterator[np.ndarray]:
        try:
            while True:
                read, frame = capture.read()
                if not read:
                    return
                yield np.ascontiguousarray(frame[..., ::-1])
        finally:
            capture.release()

    return Video(fps, frames())
