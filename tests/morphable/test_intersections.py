"""Pairs of triangles that pass through each other."""

from __future__ import annotations

import numpy as np
import pytest

from garfast.errors import ArgumentError
from garfast.morphable.intersections import crossing_triangles

FLAT = [[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]
TWO = np.array([[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    ("other", "crosses"),
    [
        ([[1.0, 1.0, -1.0], [1.0, 1.0, 1.0], [6.0, 6.0, 0.0]], True),  # an edge of the second through the first
        ([[-1.0, -1.0, -1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, 0.5]], True),  # an edge of the first through the second
        ([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [1.0, 2.0, 2.0]], False),  # above
        ([[3.0, 3.0, -1.0], [3.0, 3.0, 1.0], [6.0, 6.0, 0.0]], False),  # beside
        ([[1.0, 1.0, 0.0], [2.0, 1.0, 1.0], [1.0, 2.0, 1.0]], False),  # a corner on the plane: touches
        ([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [1.0, 2.0, 0.0]], False),  # in one plane
        ([[0.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 4.0]], False),  # along one edge
    ],
)
def test_two_triangles(other: list[list[float]], crosses: bool) -> None:
    vertices = np.array(FLAT + other)
    expected = [[0, 1]] if crosses else []
    assert crossing_triangles(vertices, TWO).tolist() == expected
    assert crossing_triangles(vertices * 1e-3 + 5.0, TWO[::-1]).tolist() == expected


def test_neighbours_are_not_compared() -> None:
    vertices = np.array([*FLAT, [1.0, 1.0, -1.0], [1.0, 1.0, 1.0]])
    assert len(crossing_triangles(vertices, np.array([[0, 1, 2], [0, 3, 4]]))) == 0


def test_finds_every_pair_in_a_heap_of_triangles_of_all_sizes() -> None:
    rng = np.random.default_rng(3)
    size = 10.0 ** rng.uniform(-1.5, 0.5, (60, 1, 1))
    corners = rng.uniform(0, 2, (60, 1, 3)) + size * rng.standard_normal((60, 3, 3))
    triangles = np.arange(180).reshape(-1, 3)
    expected = []
    for i in range(60):
        for j in range(i + 1, 60):
            both = np.concatenate([corners[i], corners[j]])
            if len(crossing_triangles(both, TWO)):
                expected.append([i, j])
    assert len(expected) > 40
    assert crossing_triangles(corners.reshape(-1, 3), triangles).tolist() == expected


def test_says_what_is_wrong() -> None:
    with pytest.raises(ArgumentError, match="vertices \\[V, 3\\]"):
        crossing_triangles(np.zeros((4, 2)), TWO)
    with pytest.raises(ArgumentError, match="finite"):
        crossing_triangles(np.full((6, 3), np.nan), TWO)
