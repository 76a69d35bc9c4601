from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from garfast.errors import ArgumentError
from garfast.evaluate.face_error import FaceRegion, TrueFace
from garfast.evaluate.rigid import Similarity, rotation_from_axis

MOTION = Similarity(rotation_from_axis(np.array([0.2, 2.0, -0.4])), np.array([10.0, 500, -30]), np.ones(()))


@pytest.fixture
def region(tiny_model):
    return FaceRegion.of(tiny_model, 60)


def test_the_same_face_elsewhere_has_no_error(tiny_model, region):
    vertices = tiny_model.mean.numpy()
    error = TrueFace(vertices, region).error(MOTION.apply(vertices))
    assert max(error.plane, error.surface, error.rms, error.vertex) < 1e-4
    assert error.normals < 0.1


def test_a_dent_in_the_middle_is_measured(tiny_model, region):
    """A nose pushed in by 3 mm over a known part of the surface; the rest holds the alignment."""
    vertices = tiny_model.mean.numpy().astype(float)
    truth = TrueFace(vertices, region)
    tip = region.nose_tip(vertices)
    pushed = np.linalg.norm(vertices - tip, axis=1) < 12
    fitted = vertices.copy()
    fitted[pushed, 2] -= 3
    distances = truth.distances(MOTION.apply(fitted))
    assert np.nanmax(distances) == pytest.approx(3, abs=1.2)
    assert np.isnan(distances[~region.rows(vertices)]).all()
    far = region.rows(vertices) & (np.linalg.norm(vertices - tip, axis=1) > 30)
    assert np.abs(distances[far]).max() < 0.6
    error = truth.error(fitted)
    assert 0.05 < error.plane <= error.surface < 1
    assert error.rms > error.plane


def test_a_larger_face_is_wrong_because_millimetres_count(tiny_model, region):
    vertices = tiny_model.mean.numpy()
    assert TrueFace(vertices, region).error(1.1 * vertices).plane > 0.2


def test_sliding_along_the_surface_costs_the_vertices_and_not_the_planes(tiny_model):
    """Vertices displaced within the surface leave the plane errors small."""
    flat = tiny_model.mean.numpy().astype(float)
    flat[:, 2] = 0
    region = FaceRegion.of(tiny_model, 60)
    slid = flat + np.stack([np.sin(flat[:, 1] / 9), np.cos(flat[:, 0] / 7), np.zeros(len(flat))], 1)
    error = TrueFace(flat, region).error(slid)
    assert error.plane < 1e-6
    assert error.vertex > 0.5


def test_eyeballs_mouth_and_the_back_of_the_head_do_not_count(tiny_model):
    height = tiny_model.mean[:, 1]
    regions = {"skin": torch.ones(525), "eyeballs": (height > 60).float(), "scalp": (height < -60).float()}
    model = replace(tiny_model, regions=regions)
    region = FaceRegion.of(model, 200)
    kept = model.mean.numpy()[region.skin]
    assert kept[:, 1].max() <= 60
    assert kept[:, 1].min() >= -60
    vertices = model.mean.numpy().astype(float)
    moved = vertices.copy()
    moved[~region.skin] += 50
    assert TrueFace(vertices, region).error(moved).plane < 1e-6


def test_what_cannot_be_compared_is_said(tiny_model, region):
    truth = TrueFace(tiny_model.mean.numpy(), region)
    with pytest.raises(ArgumentError, match="face of the same model"):
        truth.error(np.zeros((10, 3)))
    with pytest.raises(ArgumentError, match="radius"):
        FaceRegion.of(tiny_model, 0)
    with pytest.raises(ArgumentError, match="fewer than 10 vertices"):
        TrueFace(tiny_model.mean.numpy(), FaceRegion.of(tiny_model, 2))
    with pytest.raises(ArgumentError, match="leave no skin"):
        FaceRegion.of(replace(tiny_model, regions={"skin": torch.ones(525), "neck": torch.ones(525)}))
