"""What a landmark source answers, and the order of the 68 landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from garfast.errors import ArgumentError, LandmarkError, NoFaceError

NUM_LANDMARKS = 68

T = TypeVar("T")

#: For each of the 68 iBUG landmarks the index of its mirror image, [68] int64: flip a photo of width W with
#: ``landmarks = (W, 0) + (-1, 1) * landmarks[IBUG_FLIP]``.
IBUG_FLIP: np.ndarray = np.array(
    [
        *range(16, -1, -1),  # jaw
        *range(26, 16, -1),  # brows
        *range(27, 31),  # nose bridge
        *range(35, 30, -1),  # nose base
        *(45, 44, 43, 42, 47, 46),  # the subject's right eye
        *(39, 38, 37, 36, 41, 40),  # the left one
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),  # outer lips
        *(64, 63, 62, 61, 60, 67, 66, 65),  # inner lips
    ],
    dtype=np.int64,
)
IBUG_FLIP.setflags(write=False)


class Detection(NamedTuple):
    """One face in a photo.

    Attributes:
        landmarks: [68, 2] float32 in iBUG order, photo pixels: x right, y down, the centre of the top left pixel is
            (0.5, 0.5). NaN where a file says that one is missing.
        landmarks_score: [68] float32 in 0..1, how sure the source is of each; 0 where missing.
        score: 0..1, how sure the source is that this is a face.
        box: [4] float32 ``(x0, y0, x1, y1)`` around the face, photo pixels.
        source: which source answered: 'file PATH', 'face-alignment' or 'embedded'.
        contour: what landmarks 0-16 are: 'sliding' where they follow the visible outline of the face, 'fixed' where
            they stay on the same points of the jaw as the head turns (see ``garfast.fit.LandmarkFitConfig.contour``).
    """

    landmarks: np.ndarray
    landmarks_score: np.ndarray
    score: float
    box: np.ndarray
    source: str
    contour: str = "sliding"

    @property
    def size(self) -> float:
        """Area of the box, square pixels."""
        return float(max(self.box[2] - self.box[0], 0.0) * max(self.box[3] - self.box[1], 0.0))


def by_size(detections: Sequence[Detection]) -> list[Detection]:
    """The detections, largest box first."""
    return sorted(detections, key=lambda detection: -detection.size)


def select_faces(detections: Sequence[T], face: int | str = "largest") -> list[T]:
    """Those faces of a photo that were asked for.

    Args:
        detections: largest first, as :func:`garfast.landmarks.detect` returns them; or anything else of the faces.
        face: 'largest', 'all', or a number from 1 (the largest), also as text.

    Raises:
        NoFaceError: there are none.
        LandmarkError: the number is larger than that of the faces.
        ArgumentError: ``face`` is none of these.
    """
    if not detections:
        raise NoFaceError("no face was found in the photo")
    if face == "all":
        return list(detections)
    if face == "largest":
        return [detections[0]]
    text = str(face)
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentError(f"the face to use must be 'largest', 'all' or a number from 1, got {face!r}")
    if int(text) > len(detections):
        found = "one face was" if len(detections) == 1 else f"{len(detections)} faces were"
        raise LandmarkError(f"face {text} was asked for, but {found} found: give a number from 1, or 'all'")
    return [detections[int(text) - 1]]
