from __future__ import annotations

import numpy as np
import pytest

from garfast.errors import ArgumentError
from garfast.evaluate.icp import IcpConfig, icp
from garfast.evaluate.rigid import Similarity, rotation_from_axis
from garfast.evaluate.surface import Surface
from tests.evaluate.shapes import bumps, plane, sphere

TURN = Similarity(rotation_from_axis(np.array([0.04, -0.06, 0.05])), np.array([1.5, -1.0, 3.0]), np.ones(()))


@pytest.mark.parametrize("metric", ["plane", "point"])
def test_a_known_motion_is_undone(metric):
    vertices, triangles = bumps()
    inner = vertices[np.abs(vertices[:, :2]).max(1) < 42][::4]
    config = IcpConfig(metric=metric, iterations=200, improvement=1e-3)
    result = icp(TURN.apply(inner), Surface(vertices, triangles), config=config)
    assert result.converged
    tolerance = 1e-6 if metric == "plane" else 0.1
    np.testing.assert_allclose(result.transform.apply(TURN.apply(inner)), inner, atol=tolerance)
    assert result.nearest.distance.max() < tolerance


def test_a_shifted_plane_comes_back_and_does_not_slide():
    surface = Surface(*plane(100, 10))
    points = plane(50, 5, height=7.5)[0] + [3, -2, 0]
    result = icp(points, surface)
    np.testing.assert_allclose(result.transform.apply(points), points - [0, 0, 7.5], atol=1e-9)


@pytest.mark.parametrize("metric", ["plane", "point"])
def test_the_size_of_a_sphere_is_found(metric):
    surface = Surface(*sphere(50))
    points = 1.2 * sphere(50, 2)[0] + [2, 1, -1]
    result = icp(points, surface, config=IcpConfig(scale=True, metric=metric, iterations=300, improvement=0))
    assert result.transform.scale == pytest.approx(1 / 1.2, rel=1e-3)
    np.testing.assert_allclose(result.transform.apply(np.array([[2.0, 1, -1]])), 0, atol=0.02)
    assert result.nearest.distance.mean() < 0.08


def test_without_a_change_of_size_the_shells_stay_apart():
    vertices, triangles = sphere(50)
    result = icp(1.1 * sphere(50, 2)[0], Surface(vertices, triangles))
    # The middles of the facets lie a little deeper than the sphere, and nothing keeps points from turning over them.
    depth = 50 - np.linalg.norm(vertices[triangles].mean(1), axis=1).min()
    assert result.nearest.distance.mean() == pytest.approx(5, abs=depth)


def test_trimming_ignores_what_the_surface_lacks():
    vertices, triangles = bumps()
    inner = vertices[np.abs(vertices[:, :2]).max(1) < 42]
    strangers = np.random.default_rng(0).normal([0, 0, 60], 5, (len(inner) // 6, 3))
    points = np.concatenate([TURN.apply(inner), strangers])
    for config in (IcpConfig(trim=0.2), IcpConfig(max_distance=20)):
        moved = icp(points, Surface(vertices, triangles), config=config).transform.apply(TURN.apply(inner))
        np.testing.assert_allclose(moved, inner, atol=1e-4)


def test_bad_settings_are_said():
    with pytest.raises(ArgumentError, match="'plane' or 'point'"):
        IcpConfig(metric="both")
    with pytest.raises(ArgumentError, match="trim"):
        IcpConfig(trim=1.0)
    with pytest.raises(ArgumentError, match="points near the surface"):
        icp(np.eye(3) + 500, Surface(*plane()), config=IcpConfig(max_distance=5))
    with pytest.raises(ArgumentError, match="weights"):
        icp(np.eye(3), Surface(*plane()), weights=np.ones(2))
