from __future__ import annotations

import numpy as np
import pytest

from garfast.errors import ArgumentError
from garfast.evaluate.surface import Surface, crop
from tests.evaluate.shapes import plane, sphere


def _brute_force(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distances by projecting onto every triangle's plane, edges and corners."""
    best = np.full(len(points), np.inf)
    for a, b, c in corners:
        for start, end in ((a, b), (b, c), (c, a)):
            along = end - start
            t = np.clip((points - start) @ along / (along @ along), 0, 1)
            best = np.minimum(best, np.linalg.norm(points - start - t[:, None] * along, axis=1))
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal)
        height = (points - a) @ normal
        foot = points - height[:, None] * normal
        sides = [((foot - p) @ np.cross(normal, q - p)) >= 0 for p, q in ((a, b), (b, c), (c, a))]
        best = np.where(np.logical_and.reduce(sides), np.minimum(best, np.abs(height)), best)
    return best


@pytest.mark.parametrize("seed", range(3))
def test_distances_to_a_soup_of_triangles_of_all_sizes_are_exact(seed):
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(-3, 4, (60, 1, 1)))
    corners = rng.normal(0, 30, (60, 1, 3)) + size * rng.normal(size=(60, 3, 3))
    surface = Surface(corners.reshape(-1, 3), np.arange(180).reshape(60, 3))
    points = np.concatenate([rng.normal(0, 40, (150, 3)), rng.normal(0, 500, (20, 3)), corners[:10, 0]])
    found = surface.nearest(points)
    np.testing.assert_allclose(found.distance, _brute_force(points, corners), atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(found.points - points, axis=1), found.distance, atol=1e-9)
    assert (np.abs(found.to_plane) <= found.distance + 1e-9).all()
    np.testing.assert_allclose(found.weights.sum(1), 1)
    assert found.weights.min() > -1e-9


def test_points_above_a_plane():
    surface = Surface(*plane(100, 1))  # two triangles
    points = np.array([[0, 0, 3.0], [20, -30, -2], [60, 0, 4]])
    found = surface.nearest(points)
    np.testing.assert_allclose(found.to_plane, [3, -2, 4], atol=1e-12)
    np.testing.assert_allclose(found.distance, [3, 2, np.hypot(10, 4)])
    np.testing.assert_allclose(found.normals, [[0, 0, 1]] * 3)


def test_the_centre_of_a_sphere_is_as_far_as_its_nearest_triangle():
    vertices, triangles = sphere(50, 3)
    corners = vertices[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    height = np.abs((corners[:, 0] * normal).sum(1)) / np.linalg.norm(normal, axis=1)
    assert Surface(vertices, triangles).nearest(np.zeros((1, 3))).distance[0] == pytest.approx(height.min())


def test_areas_around_vertices_add_up():
    vertices, triangles = plane(80, 7)
    assert Surface(vertices, triangles).vertex_areas.sum() == pytest.approx(6400)


def test_a_crop_keeps_whole_triangles_inside():
    vertices, triangles = plane(100, 20)
    part, faces, rows = crop(vertices, triangles, np.zeros(3), 22)
    assert np.linalg.norm(part, axis=1).max() <= 22
    np.testing.assert_array_equal(vertices[rows], part)
    assert set(faces.ravel()) == set(range(len(part)))
    with pytest.raises(ArgumentError, match="no triangle"):
        crop(vertices, triangles, np.full(3, 1000.0), 22)


def test_what_is_no_surface_is_said():
    with pytest.raises(ArgumentError, match="indices below 3"):
        Surface(np.eye(3), np.array([[0, 1, 3]]))
    with pytest.raises(ArgumentError, match="with an area"):
        Surface(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    with pytest.raises(ArgumentError, match="finite vertices"):
        Surface(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))
    with pytest.raises(ArgumentError, match="points must be finite"):
        Surface(np.eye(3), np.array([[0, 1, 2]])).nearest(np.full((1, 3), np.inf))
