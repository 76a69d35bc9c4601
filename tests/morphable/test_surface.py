"""Places on a mesh, on shapes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from garfast.errors import ArgumentError
from garfast.morphable.surface import (
    contour_chains,
    fit_sphere,
    front_points,
    line_distance,
    lower_edge_points,
    mirrored_vertices,
    polygon_mask,
    smooth_curve,
    smooth_mask,
    unique_edges,
)


def _half_sphere(radius: float = 80.0) -> tuple[np.ndarray, np.ndarray]:
    """The front of a sphere as a longitude-latitude grid."""
    longitude, latitude = np.meshgrid(np.linspace(-1.5, 1.5, 61), np.linspace(-1.2, 1.2, 49))
    x = np.sin(longitude) * np.cos(latitude)
    z = np.cos(longitude) * np.cos(latitude)
    vertices = radius * np.stack([x, np.sin(latitude), z], -1).reshape(-1, 3)
    corner = (np.arange(48)[:, None] * 61 + np.arange(60)).reshape(-1, 1)
    triangles = np.concatenate([corner + np.array(shift) for shift in ([0, 1, 62], [0, 62, 61])])
    return vertices, triangles


def test_front_points_take_the_nearest_layer() -> None:
    square = np.array([[0.0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]])
    vertices = np.concatenate([square, square + np.array([0, 0, 5.0])])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    index, weight = front_points(vertices, triangles, np.array([[7.0, 2.0], [1.0, 8.0]]))
    np.testing.assert_allclose((vertices[index] * weight[..., None]).sum(1), [[7, 2, 5], [1, 8, 5]])
    with pytest.raises(ArgumentError, match="no surface at"):
        front_points(vertices, triangles, np.array([[20.0, 2.0]]))


def test_lower_edge_points_lie_where_the_surface_turns_away() -> None:
    vertices, triangles = _half_sphere()
    chin, aside, beyond = 9 * 61 + 30, 9 * 61 + 34, 1 * 61 + 30
    index, weight = lower_edge_points(
        vertices, triangles, np.array([chin, aside, beyond]), axis_y=0.0, facing=60.0, reach=30.0
    )
    points = (vertices[index] * weight[..., None]).sum(1)
    # On a sphere the normal is the direction from its centre, and the fan's planes hold the centre.
    for point, start in zip(points[:2], vertices[[chin, aside]], strict=True):
        assert np.degrees(np.arccos(point[2] / 80)) == pytest.approx(60, abs=1)
        assert point[0] * start[1] == pytest.approx(point[1] * start[0], abs=30)  # mm², of 1 mm off the plane
    assert (weight[:, 0] >= weight[:, 1]).all()
    assert index[2].tolist() == [beyond] * 3
    assert weight[2].tolist() == [1, 0, 0]


def test_contour_chains_start_at_the_landmark_and_follow_their_plane() -> None:
    vertices, triangles = _half_sphere()
    level, low = 30 * 61 + 2, 4 * 61 + 30  # at the side above the axis; at the chin on the symmetry plane
    chains = contour_chains(
        vertices, triangles, np.array([level, low]), axis_y=0.0, inner=np.array([0.3, 0.5]), spacing=4.0
    )
    side, chin = (chain[chain >= 0] for chain in chains)
    assert side[0] == level
    assert chin[0] == low
    assert len(side) > 10
    assert np.ptp(vertices[side, 1]) < 5
    assert (np.diff(vertices[side, 2]) > 0).all()  # ever further to the front
    assert np.abs(vertices[chin, 0]).max() < 3
    assert (np.diff(vertices[chin, 1]) > 0).all()
    # Turned away by 40 degrees, the outermost candidate lies on the true outline of the sphere.
    turned = vertices[side] @ np.array([[np.cos(0.7), 0, np.sin(0.7)], [0, 1, 0], [-np.sin(0.7), 0, np.cos(0.7)]])
    outline = 80 * np.sqrt(1 - (vertices[level, 1] / 80) ** 2)
    assert np.abs(turned[:, 0]).max() > 0.97 * outline


def test_polygon_mask_is_a_ramp_across_the_outline() -> None:
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    points = np.array([[5.0, 5], [10, 5], [10.5, 5], [12, 5], [-3, -3]])
    np.testing.assert_allclose(polygon_mask(points, square, soft=2.0), [1, 0.5, 0.25, 0, 0])
    np.testing.assert_allclose(polygon_mask(points[2:3], square, soft=2.0, grow=1.0), [0.75])


def test_line_distance() -> None:
    line = np.array([[0.0, 0], [10, 0], [10, 10]])
    np.testing.assert_allclose(line_distance(np.array([[5.0, 3], [13, 4], [-3, -4]]), line), [3, 3, 5])


def test_smooth_curve_passes_through_its_points() -> None:
    points = np.array([[0.0, 0], [4, 1], [3, 5], [-1, 3]])
    np.testing.assert_allclose(smooth_curve(points, 5)[::5], points)


def test_smooth_mask_keeps_constants_and_range() -> None:
    vertices, triangles = _half_sphere()
    edges = unique_edges(triangles)
    np.testing.assert_allclose(smooth_mask(np.ones(len(vertices)), edges, 3), 1)
    step = smooth_mask((vertices[:, 0] > 0).astype(float), edges, 3)
    assert ((step > 0.01) & (step < 0.99)).any()


def test_unique_edges_of_two_triangles() -> None:
    assert len(unique_edges(np.array([[0, 1, 2], [2, 1, 3]]))) == 5


def test_fit_sphere() -> None:
    vertices, _ = _half_sphere()
    centre, radius = fit_sphere(vertices + np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(centre, [1, 2, 3], atol=1e-6)
    assert radius == pytest.approx(80)


def test_mirrored_vertices_stay_in_their_group() -> None:
    vertices = np.array([[1.0, 0, 0], [-1, 0, 0], [1, 0, 0.1], [-1, 0, 0.1]])
    assert mirrored_vertices(vertices).tolist() == [1, 0, 3, 2]
    assert mirrored_vertices(vertices, np.array([0, 1, 1, 0])).tolist() == [3, 2, 1, 0]
