"""Boxes around faces: their size, and what two of them share."""

from __future__ import annotations

import numpy as np
import pytest

from garfast.landmarks.boxes import bounding_box, face_size, intersection_over_union, shared_parts


def test_missing_points_are_passed_over() -> None:
    points = np.array([[1, 5], [np.nan, np.nan], [3, 2]], np.float32)
    np.testing.assert_array_equal(bounding_box(points), [1, 2, 3, 5])
    assert face_size(points) == pytest.approx(6**0.5)


def test_what_boxes_share() -> None:
    a, b = np.array([0, 0, 2, 2.0]), np.array([1, 1, 3, 3.0])
    assert intersection_over_union(a, b) == pytest.approx(1 / 7)
    assert intersection_over_union(a, a) == 1
    assert intersection_over_union(a, b + 5) == 0
    assert shared_parts(a, np.array([0, 0, 1, 1.0])) == (0.25, 1.0)
    assert shared_parts(a, np.zeros(4)) == (0, 0)
