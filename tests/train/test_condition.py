"""What a generator is told of faces: maps of its resolutions, depth, or coefficients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from garfast.errors import ArgumentError
from garfast.networks.generator import GeneratorConfig
from garfast.train.condition import condition_of, depth_maps, parameters
from garfast.train.gar.geometry import GeometryPrior, GeometrySampler
from garfast.train.portraits import normal_maps
from tests.tiny_face import make_tiny_model

CONFIG = GeneratorConfig(size=16, z_dim=8, style_dim=8, mapping_layers=2, channel_base=128, channel_max=8)


@pytest.fixture(scope="module")
def sampler():
    return GeometrySampler([(make_tiny_model(), 1.0)], 64, GeometryPrior(yaw=0.3, perspective=0.5))


def test_maps_of_all_resolutions_and_normals_of_another_size(sampler):
    groups = sampler.sample([3], 2)
    told = condition_of(CONFIG, groups, 4, normals_size=24)
    assert told.params is None
    assert [level.shape[-1] for level in told.maps] == CONFIG.resolutions
    torch.testing.assert_close(told.maps[-1], normal_maps(groups, 4, 16))
    torch.testing.assert_close(told.normals, normal_maps(groups, 4, 24))
    nothing = condition_of(replace(CONFIG, nim="none"), groups, 4)
    assert nothing.maps is None
    assert nothing.normals.shape == (4, 3, 16, 16)


def test_rows_and_repetitions_go_together(sampler):
    told = condition_of(CONFIG, sampler.sample([4], 2), 4)
    assert torch.equal(told.repeat(2).normals[3], told.normals[1])
    turned = told.rows(torch.tensor([2, 0]))
    assert torch.equal(turned.maps[0], told.maps[0][[2, 0]])


def test_coefficients_are_padded_as_the_generator_knows(sampler):
    """Not as the batch's largest model would have it: another batch may hold other models."""
    groups, model = sampler.sample([5], 2), sampler.models[0]
    config = replace(
        CONFIG, condition="params", params_dim=model.num_shape + model.num_exp + 6, params_shape=model.num_shape + 2
    )
    params = condition_of(config, groups, 4).params
    assert params.shape == (4, config.params_dim)
    assert torch.all(params[:, model.num_shape : config.params_shape] == 0)
    for group in groups:
        assert torch.equal(params[group.rows, : model.num_shape], group.shape)
        assert torch.equal(params[group.rows, config.params_shape :][:, : model.num_exp], group.exp)


def test_models_with_more_coefficients_than_the_generator_takes_are_refused(sampler):
    config = replace(CONFIG, condition="params", params_dim=13)  # nobody has said how many are the shape's
    with pytest.raises(ArgumentError, match="takes 0 and 10 coefficients of shape and expression, but"):
        condition_of(config, sampler.sample([6], 1), 2)


def test_depth_is_nearer_than_the_background(sampler):
    groups = sampler.sample([9], 2)
    (depth,) = depth_maps(groups, 4, [32])
    normals = normal_maps(groups, 4, 32)
    face = normals.square().sum(1, keepdim=True) > 0
    assert torch.all(depth[face] > 0.2)
    assert torch.all(depth[~face] == 0)


def test_parameters_are_padded(sampler):
    model = sampler.models[0]
    values = parameters(sampler.sample([9], 2), 4, model.num_shape + 2, model.num_exp)
    assert values.shape == (4, model.num_shape + 2 + model.num_exp + 3)
    assert torch.all(values[:, model.num_shape : model.num_shape + 2] == 0)
