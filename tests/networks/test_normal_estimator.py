from __future__ import annotations

from functools import partial

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.networks.normal_estimator import (
    NormalEstimator,
    NormalEstimatorConfig,
    angles_between,
    estimate_both_sides,
)

NARROW = NormalEstimatorConfig(widths=(8, 8), depth=1)


def test_sides_must_fit_where_no_size_is_named():
    network = NormalEstimator(NARROW).eval()
    assert network(torch.zeros(2, 3, 12, 20)).normals.shape == (2, 3, 12, 20)
    with pytest.raises(ArgumentError, match="sides divisible by 4"):
        network(torch.zeros(2, 3, 10, 20))


def test_other_pictures_are_resized_to_the_named_size_and_back():
    torch.manual_seed(0)
    network = NormalEstimator(NormalEstimatorConfig(widths=(8, 8), depth=1, size=32)).eval()
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    small = network(image)
    assert small.normals.shape == (1, 3, 16, 16)
    assert small.mask_logits.shape == (1, 1, 16, 16)
    torch.testing.assert_close(small.normals.norm(dim=1), torch.ones(1, 16, 16))
    resize = partial(torch.nn.functional.interpolate, mode="bilinear", align_corners=False, antialias=True)
    whole = network(resize(image, size=(32, 32)))
    expected = torch.nn.functional.normalize(resize(whole.normals, size=(16, 16)), dim=1)
    torch.testing.assert_close(small.normals, expected)
    torch.testing.assert_close(small.mask_logits, resize(whole.mask_logits, size=(16, 16)))


def test_configurations_written_before_there_was_a_size_are_read():
    config = NormalEstimatorConfig.from_dict({"widths": [8, 8], "depth": 1})
    assert config == NARROW


def test_both_sides_of_a_mirrored_picture_are_mirrored():
    torch.manual_seed(0)
    network = NormalEstimator(NARROW).eval()
    image = torch.rand(2, 3, 16, 24) * 2 - 1
    there, back = estimate_both_sides(network, image), estimate_both_sides(network, image.flip(3))
    torch.testing.assert_close(back.normals.flip(3) * torch.tensor([-1.0, 1, 1])[:, None, None], there.normals)
    torch.testing.assert_close(back.mask_logits.flip(3), there.mask_logits)
    torch.testing.assert_close(there.normals.norm(dim=1), torch.ones(2, 16, 24))


def test_angles_are_over_the_face_alone():
    normals = torch.zeros(1, 3, 2, 2)
    normals[0, 2, 0] = 1
    estimate = torch.zeros(1, 3, 2, 2)
    estimate[:, 0] = 1
    angles = angles_between(estimate, normals)
    assert angles.tolist() == pytest.approx([90, 90])
