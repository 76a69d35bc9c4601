"""What is known about a picture because it was made: landmarks and what hides them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from garfast.synth.native import Frame, kernels
from garfast.synth.shot import Shot
from garfast.synth.template import HeadTemplate

Floats = NDArray[np.float32]

_HIDDEN = 7.0  # mm; a landmark this far behind what the picture shows is hidden


def landmark_points(template: HeadTemplate, vertices: Floats) -> Floats:
    """[68, 3] landmarks of drawn vertices [V, 3], in their space."""
    points = (vertices[template.landmark_rows] * template.landmark_weights[..., None]).sum(1)
    return np.ascontiguousarray(points, np.float32)


def contour_landmarks(template: HeadTemplate, shot: Shot, vertices: Floats, landmarks: Floats) -> Floats:
    """The 2D flavour of the landmarks, [68, 2] pixels: those of the jaw slide to the face's outline in the picture.

    Each jaw landmark takes, of the vertices it may slide over, the one that lies farthest outward in the image.

    Args:
        vertices: [V, 3] drawn vertices, camera space.
        landmarks: [68, 2] pixels of the 3D flavour.
    """
    direction, roll = template.contour_directions, shot.angles[2]
    sine, cosine = math.sin(roll), math.cos(roll)
    # Rows of a picture run downward.
    turn = np.array([[cosine, -sine], [-sine, -cosine]], np.float32)
    out = landmarks.copy()
    kernels().synth_outline(  # type: ignore[attr-defined]
        vertices,
        template.contour_rows,
        direction @ turn,
        shot.scale,
        *shot.offset,
        out[: len(direction)],
        *template.contour_rows.shape,
        shot.orthographic,
    )
    return out


def landmark_visibility(shot: Shot, frame: Frame, points: Floats, pixels: Floats) -> Floats:
    """[68] 1 where the picture shows a landmark, 0 where the head or a thing hides it or the picture ends.

    Args:
        points: [68, 3] camera space.
        pixels: [68, 2] their places in the picture.
    """
    height, width = frame.near.shape
    column, row = np.floor(2 * pixels[:, 0]).astype(int), np.floor(2 * pixels[:, 1]).astype(int)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    seen = np.zeros(len(points), np.float32)
    seen[inside] = frame.near[row[inside], column[inside]] < shot.near(points[inside, 2] + _HIDDEN)
    return seen
