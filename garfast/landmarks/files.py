"""Landmarks from files: .pts, .txt, .npy and .json.

Conventions: ``.pts`` files hold the coordinates of the iBUG annotations, in which the centre of the top left pixel is
(1, 1); half a pixel is taken off. All other files hold photo pixels as everywhere in garfast, where it is (0.5, 0.5).
A ``.pts`` file is one face; the others may hold several, one after the other. NaN marks a missing landmark.
"""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from garfast.errors import GarfastWarning, LandmarkError
from garfast.landmarks.boxes import bounding_box
from garfast.landmarks.detection import NUM_LANDMARKS, Detection, by_size

SUFFIXES = (".pts", ".txt", ".npy", ".json")

# Below this a photo's companion file cannot be a list of landmarks: a caption or settings of something else.
MIN_NUMBERS = 10

PTS_ORIGIN = 0.5


class _NotLandmarks(LandmarkError):
    """The file holds something else than landmarks."""


def read_landmarks(path: str | os.PathLike[str]) -> list[Detection]:
    """The faces in a landmark file, largest first.

    Args:
        path: one of
            ``.pts`` (iBUG);
            ``.txt``: 68 lines of x and y for each face; commas and ``#`` comments are fine;
            ``.npy``: [68, 2] or [N, 68, 2]; a third coordinate is ignored;
            ``.json``: the same as nested lists, or an object with these under ``landmarks``, such as a fit's
            ``params.json``, or a list of such objects.

    Returns:
        Detections with score 1; ``contour`` is 'sliding'.

    Raises:
        LandmarkError: the file cannot be read, or does not hold 68 landmarks for each face.
    """
    path = Path(path)
    readers = {".pts": _read_pts, ".txt": _read_text, ".npy": _read_npy, ".json": _read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise LandmarkError(f"{path} is not a landmark file: one of {', '.join(SUFFIXES)} was expected")
    try:
        points = reader(path)
    except OSError as error:
        raise LandmarkError(f"cannot read the landmark file {path}: {error.strerror or error}") from error
    faces = _as_faces(points, path)
    return by_size([_detection(face, path) for face in faces])


def find_landmark_file(photo: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> Path | None:
    """The landmark file with the photo's stem, in the photo's folder or another one; None where there is none."""
    photo = Path(photo)
    place = Path(folder) if folder is not None else photo.parent
    candidates = (place / (photo.stem + suffix) for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file() and path != photo), None)


def read_companion(photo: str | os.PathLike[str]) -> list[Detection] | None:
    """The faces in the landmark file next to a photo; None where there is none.

    A ``.txt`` or ``.json`` file that holds no landmarks at all (a caption, settings) is passed over with a warning.

    Raises:
        LandmarkError: there is a landmark file, and something is wrong with it.
    """
    path = find_landmark_file(photo)
    if path is None:
        return None
    try:
        return read_landmarks(path)
    except _NotLandmarks:
        if path.suffix.lower() in (".pts", ".npy"):
            raise
        warnings.warn(f"{path} holds no landmarks and was passed over", GarfastWarning, stacklevel=2)
        return None


def _detection(face: np.ndarray, path: Path) -> Detection:
    return Detection(
        landmarks=face,
        landmarks_score=(~np.isnan(face).any(1)).astype(np.float32),
        score=1.0,
        box=bounding_box(face),
        source=f"file {path}",
    )


def _as_faces(points: np.ndarray, path: Path) -> np.ndarray:
    """[N, 68, 2] float32 from [..., 2 or 3]."""
    if points.ndim == 2:
        if points.shape[0] == 0 or points.shape[0] % NUM_LANDMARKS:
            raise LandmarkError(
                f"{path} has {points.shape[0]} landmarks, but {NUM_LANDMARKS} were expected for each face (iBUG order)"
            )
        points = points.reshape(-1, NUM_LANDMARKS, points.shape[1])
    if points.ndim != 3 or points.shape[0] == 0 or points.shape[2] not in (2, 3):
        raise LandmarkError(
            f"{path} holds numbers of shape {list(points.shape)}, but [{NUM_LANDMARKS}, 2] were expected for each face"
        )
    if points.shape[1] != NUM_LANDMARKS:
        raise LandmarkError(
            f"{path} has {points.shape[1]} landmarks, but {NUM_LANDMARKS} were expected for each face (iBUG order)"
        )
    faces = points[..., :2].astype(np.float32)
    if np.isinf(faces).any():
        raise LandmarkError(f"{path} contains infinite coordinates: give pixels, NaN where a landmark is missing")
    if np.isnan(faces).all(1).any():
        raise LandmarkError(f"{path} has a face without a single known landmark")
    return faces


def _read_pts(path: Path) -> np.ndarray:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise _NotLandmarks(f"{path} is not an iBUG .pts file: a list of points between braces was expected")
    return _rows(text[start + 1 : end], path) - PTS_ORIGIN


def _read_text(path: Path) -> np.ndarray:
    return _rows(path.read_text(encoding="utf-8-sig", errors="replace"), path)


def _rows(text: str, path: Path) -> np.ndarray:
    """Points of a text with two or three numbers on each line, or all on one line."""
    lines = [line.split("#")[0].replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
    lines = [line for line in lines if line]
    try:
        rows = [[float(word) for word in line] for line in lines]
    except ValueError as error:
        raise _NotLandmarks(f"{path} is not a list of landmarks: two numbers on each line were expected") from error
    widths = {len(row) for row in rows}
    if sum(map(len, rows)) < MIN_NUMBERS:
        raise _NotLandmarks(f"{path} has only {len(rows)} landmarks, but {NUM_LANDMARKS} were expected (iBUG order)")
    if widths <= {2} or widths <= {3}:
        points = np.array(rows)
        numbered = widths == {3} and any(np.array_equal(points[:, 0], np.arange(k, k + len(rows))) for k in (0, 1))
        return points[:, 1:] if numbered else points
    if len(rows) == 1 and len(rows[0]) % 2 == 0:
        return np.array(rows).reshape(-1, 2)
    raise _NotLandmarks(f"{path} has lines with {sorted(widths)} numbers, but two (x and y) were expected on each")


def _read_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _NotLandmarks(f"{path} is not a readable .npy file of numbers") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise _NotLandmarks(f"{path} does not hold numbers: an array of shape [{NUM_LANDMARKS}, 2] was expected")
    return array.astype(np.float64)


def _read_json(path: Path) -> np.ndarray:
    expected = f"{NUM_LANDMARKS} pairs [x, y], or an object with these under 'landmarks', were expected"
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _NotLandmarks(f"{path} is not readable JSON: {expected}") from error
    data = _landmarks_of(data)
    if isinstance(data, list) and data and all(isinstance(item, dict) for item in data):
        data = [_landmarks_of(item) for item in data]
    try:
        # null stands for NaN, which JSON has no word for.
        points = np.array(data if isinstance(data, list) else "", dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _NotLandmarks(f"{path} does not hold landmarks: {expected}") from error
    return points


def _landmarks_of(data: Any) -> Any:
    if isinstance(data, dict):
        return data.get("landmarks", data.get("faces"))
    return data
