"""Random geometry lies on the template, repeats, and persons keep their shape."""

from __future__ import annotations

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.landmarks.alignment import TEMPLATE
from garfast.train.gar.geometry import GeometryPrior, GeometrySampler
from garfast.train.portraits import landmark_places, normal_maps
from tests.tiny_face import make_tiny_model


@pytest.fixture(scope="module")
def sampler():
    return GeometrySampler([(make_tiny_model(), 1.0)], 64, GeometryPrior(yaw=0.3, perspective=0.5))


def test_same_seed_same_faces(sampler):
    first, second = sampler.sample([3, 1], 3), sampler.sample([3, 1], 3)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a.vertices(), b.vertices(), atol=0, rtol=0)
    other = sampler.sample([3, 2], 3)
    assert not torch.equal(torch.cat([g.shape for g in first]), torch.cat([g.shape for g in other]))


def test_rows_cover_the_batch_and_variants_share_the_shape(sampler):
    groups = sampler.sample([5], 6, variants=2)
    rows = torch.cat([group.rows for group in groups])
    assert sorted(rows.tolist()) == list(range(12))
    assert {group.projection for group in groups} == {"orthographic", "pinhole"}
    for group in groups:
        torch.testing.assert_close(group.shape[0::2], group.shape[1::2])
        assert not torch.equal(group.pose.rotation[0::2], group.pose.rotation[1::2])


def test_faces_lie_on_the_template(sampler):
    groups = sampler.sample([7], 4)
    places = landmark_places(groups, 8)
    assert (places - (2 * torch.tensor(TEMPLATE) - 1)).norm(dim=-1).mean() < 0.25
    coarse, fine = normal_maps(groups, 8, [4, 64])
    assert coarse.shape == (8, 3, 4, 4)
    centre = ((places.mean(1) + 1) * 32).long()
    assert torch.all(fine[torch.arange(8), 2, centre[:, 1], centre[:, 0]] > 0)


def test_no_model():
    with pytest.raises(ArgumentError):
        GeometrySampler([], 64)
