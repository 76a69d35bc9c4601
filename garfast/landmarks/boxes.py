"""Boxes ``(x0, y0, x1, y1)`` around faces, pixels."""

from __future__ import annotations

import numpy as np


def bounding_box(landmarks: np.ndarray) -> np.ndarray:
    """The box of the landmarks that are not NaN, [4] float32."""
    return np.concatenate([np.nanmin(landmarks, 0), np.nanmax(landmarks, 0)]).astype(np.float32)


def face_size(landmarks: np.ndarray) -> float:
    """``sqrt(width * height)`` of the box around landmarks [68, 2], pixels: what errors are divided by."""
    width, height = np.nanmax(landmarks, 0) - np.nanmin(landmarks, 0)
    return float(np.sqrt(float(width) * float(height)))


def shared_parts(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """What two boxes share: of the area that they cover together, and of the smaller one's; 0 where that is nothing."""
    shared = float(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod())
    areas = float((a[2:] - a[:2]).prod()), float((b[2:] - b[:2]).prod())
    return shared / max(sum(areas) - shared, 1e-6), shared / max(min(areas), 1e-6)


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """The part of the area that two boxes cover together which they share, 0..1."""
    return shared_parts(a, b)[0]
