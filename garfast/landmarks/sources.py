"""One entry to all sources of landmarks."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

import numpy as np

from garfast.errors import ArgumentError, LandmarkError, NoFaceError
from garfast.landmarks.detection import Detection, by_size
from garfast.landmarks.face_alignment_source import detect_face_alignment, weights_present
from garfast.landmarks.files import SUFFIXES, find_landmark_file, read_companion, read_landmarks

METHODS = ("auto", "file", "face-alignment", "embedded")

_EMBEDDED = "garfast.landmarks.embedded"


def detect(
    image: np.ndarray,
    method: str | os.PathLike[str] = "auto",
    path: str | os.PathLike[str] | None = None,
    device: str = "cpu",
) -> list[Detection]:
    """Find the faces of a photo and their 68 landmarks.

    Args:
        image: uint8 [H, W, 3] RGB.
        method: where the landmarks come from.
            'file': a landmark file (:func:`read_landmarks` says which) with the photo's stem, next to the photo.
            'face-alignment': the package of that name; its weights are fetched if they are missing.
            'embedded': the detector that comes with garfast.
            'auto': the first of these that can be used here without fetching anything, in this order; ``source`` of
            the answer says which. A face that one finds nothing in is given to the next.
            A path: that landmark file, or a folder with a landmark file of the photo's stem.
        path: of the photo, as far as it has one; or of a landmark file.
        device: where networks run.

    Returns:
        One :class:`Detection` for each face, the largest first; never empty.

    Raises:
        NoFaceError: no face was found.
        LandmarkError: the landmark file is missing or malformed, lies outside the photo, or no source can be used.
        DownloadError: weights were asked for and cannot be fetched.
        WeightsFileError: weights are damaged.
        ArgumentError: the image is not uint8 [H, W, 3], or the method is unknown.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ArgumentError("the image must be a uint8 array of shape [H, W, 3], RGB")
    photo, file = _photo_and_file(os.fspath(method), Path(path) if path is not None else None)
    if file is not None:
        return inside(read_landmarks(file), image)
    if method == "face-alignment":
        return _some(detect_face_alignment(image, device), "face-alignment")
    if method == "embedded":
        if not embedded_present():
            raise LandmarkError("this installation has no embedded landmark detector: use 'file' or 'face-alignment'")
        return _some(_detect_embedded(image, device), "the embedded detector")
    return _automatic(image, photo, device)


def embedded_present() -> bool:
    """Whether the detector that comes with garfast is there."""
    return importlib.util.find_spec(_EMBEDDED) is not None


def example_landmarks() -> Path:
    """A .pts file with the astronaut's landmarks, placed by hand, in the photo ``skimage.data.astronaut()``."""
    return Path(__file__).parent / "data" / "astronaut.pts"


def _photo_and_file(method: str, path: Path | None) -> tuple[Path | None, Path | None]:
    """The photo's path and the landmark file that was asked for, each None where there is none."""
    given = path if path is not None and path.suffix.lower() in SUFFIXES else None
    photo = path if given is None else None
    if method not in METHODS:
        place = Path(method)
        if place.suffix.lower() in SUFFIXES:
            return photo, place
        if not place.is_dir():
            raise ArgumentError(f"landmarks must come from {', '.join(METHODS)}, a file or a folder; got {method!r}")
        return photo, _required(photo, place)
    if method != "file":
        return photo, given if method == "auto" else None
    return photo, given if given is not None else _required(photo, None)


def _required(photo: Path | None, folder: Path | None) -> Path:
    kinds = ", ".join(SUFFIXES)
    if photo is None:
        raise LandmarkError(f"landmarks from a file were asked for: name the file ({kinds})")
    if photo.is_dir():
        raise LandmarkError(f"{photo} is a folder: name the photo or its landmark file ({kinds})")
    file = find_landmark_file(photo, folder)
    if file is None:
        place = folder if folder is not None else photo.parent
        raise LandmarkError(
            f"there is no landmark file for {photo.name} in {place}: {photo.stem} with {kinds} was expected"
        )
    return file


def _automatic(image: np.ndarray, photo: Path | None, device: str) -> list[Detection]:
    known = read_companion(photo) if photo is not None else None
    if known is not None:
        return inside(known, image)
    tried = []
    if weights_present():
        tried.append("face-alignment")
        found = detect_face_alignment(image, device)
        if found:
            return found
    if embedded_present():
        tried.append("the embedded detector")
        found = by_size(_detect_embedded(image, device))
        if found:
            return found
    if not tried:
        raise LandmarkError(
            "there is nothing here to find landmarks with: put a landmark file (.pts) of the photo's name next to it, "
            "or ask for face-alignment by name, which fetches its weights"
        )
    return _some([], " or ".join(tried))


def _detect_embedded(image: np.ndarray, device: str) -> list[Detection]:
    # By name, so that this module works in an installation without the detector.
    found: list[Detection] = importlib.import_module(_EMBEDDED).detect_embedded(image, device=device)
    return found


def _some(found: list[Detection], source: str) -> list[Detection]:
    if not found:
        raise NoFaceError(f"no face was found in the photo by {source}: give its landmarks in a file (.pts)")
    return by_size(found)


def inside(found: list[Detection], image: np.ndarray) -> list[Detection]:
    """The detections, if all of them lie in the image [H,W,3].

    Raises:
        LandmarkError: one lies outside.
    """
    height, width = image.shape[:2]
    for detection in found:
        x0, y0, x1, y1 = detection.box
        if x1 < 0 or y1 < 0 or x0 > width or y0 > height:
            raise LandmarkError(
                f"the landmarks of {detection.source} lie outside the photo of {width}x{height} pixels: "
                "were they made for another size?"
            )
    return found
