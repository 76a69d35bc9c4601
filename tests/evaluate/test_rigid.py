from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from garfast.errors import ArgumentError
from garfast.evaluate.rigid import Similarity, align_points, align_robust, rotation_from_axis

axes = st.tuples(*[st.floats(-1.5, 1.5)] * 3).map(np.array)


@given(axes, st.floats(0.5, 2.0), st.integers(0, 10))
@settings(max_examples=40, deadline=None)
def test_a_known_motion_is_found(axis, scale, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(0, 30, (20, 3))
    known = Similarity(rotation_from_axis(axis), rng.normal(0, 50, 3), np.asarray(scale))
    found = align_points(points, known.apply(points), scale=True)
    np.testing.assert_allclose(found.rotation, known.rotation, atol=1e-9)
    np.testing.assert_allclose(found.translation, known.translation, atol=1e-8)
    assert found.scale == pytest.approx(scale)
    assert found.angle == pytest.approx(np.linalg.norm(axis), abs=1e-6)
    np.testing.assert_allclose(found.inverse().apply(known.apply(points)), points, atol=1e-8)
    np.testing.assert_allclose(known.after(found).apply(points), known.apply(found.apply(points)), atol=1e-8)


def test_a_rigid_alignment_keeps_the_size():
    points = np.random.default_rng(0).normal(0, 30, (20, 3))
    found = align_points(points, 2 * points)
    assert found.scale == 1
    np.testing.assert_allclose(found.rotation, np.eye(3), atol=1e-9)


def test_a_mirror_image_is_answered_with_a_rotation():
    points = np.random.default_rng(0).normal(0, 30, (20, 3))
    found = align_points(points, points * [-1, 1, 1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_a_batch_equals_its_items():
    rng = np.random.default_rng(1)
    source, target, weights = rng.normal(size=(2, 3, 9, 3)), rng.normal(size=(2, 3, 9, 3)), rng.random((2, 3, 9))
    whole = align_points(source, target, weights=weights, scale=True)
    for i in range(2):
        for j in range(3):
            one = align_points(source[i, j], target[i, j], weights=weights[i, j], scale=True)
            np.testing.assert_allclose(whole.rotation[i, j], one.rotation)
            np.testing.assert_allclose(whole.apply(source)[i, j], one.apply(source[i, j]))


def test_a_weight_of_zero_leaves_a_point_out():
    rng = np.random.default_rng(2)
    points = rng.normal(0, 30, (20, 3))
    target = points + np.array([1, 2, 3])
    target[0] += 100
    weights = np.ones(20)
    weights[0] = 0
    np.testing.assert_allclose(align_points(points, target, weights=weights).translation, [1, 2, 3], atol=1e-9)


def test_outliers_do_not_matter_to_the_robust_alignment():
    rng = np.random.default_rng(3)
    points = rng.normal(0, 30, (60, 3))
    known = Similarity(rotation_from_axis(np.array([0.1, 0.2, -0.3])), np.array([5.0, -2, 1]), np.ones(()))
    target = known.apply(points) + rng.normal(0, 0.05, points.shape)
    target[:15] += rng.normal(0, 40, (15, 3))
    plain = np.linalg.norm(align_points(points, target).apply(points) - known.apply(points), axis=1).max()
    robust = np.linalg.norm(align_robust(points, target).apply(points) - known.apply(points), axis=1).max()
    assert plain > 2
    assert robust < 0.1


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (np.zeros((2, 3)), "at least 3 points"),
        (np.ones((5, 3)), "all lie in one place"),
        (np.full((5, 3), np.nan), "finite"),
    ],
)
def test_what_cannot_be_aligned_is_said(source, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        align_points(source, np.zeros_like(source))
