"""The weights that come with the package: they load, belong together, and do what their card says."""

from __future__ import annotations

import pytest
import torch

from garfast.morphable import load_model
from garfast.networks.normal_estimator import angles_between
from garfast.networks.renderer import SHIPPED, load_renderer
from garfast.train.gar.geometry import GeometryPrior, GeometrySampler
from garfast.train.portraits import LivePortraits, normal_maps


@pytest.fixture(scope="module")
def renderer():
    return load_renderer()


def test_every_network_is_there_and_small(renderer):
    assert set(renderer.networks()) == {"generator", "inverter", "normals", "identity", "perceptual"}
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 40e6
    assert renderer.notes


def test_normals_are_kept(renderer):
    """The estimator sees in the renderer's pictures the normals they were made from, and in portraits the true ones."""
    model, size = load_model("builtin"), renderer.size
    sampler = GeometrySampler([(model, 1.0)], size, GeometryPrior(yaw=0.3))
    groups = sampler.sample([1], 4)
    maps = normal_maps(groups, 8, renderer.generator.config.resolutions)
    torch.manual_seed(0)
    image = renderer.generator(maps, torch.randn(8, renderer.generator.config.z_dim)).image.clamp(-1, 1)
    assert angles_between(renderer.normals(image).normals, maps[-1]).mean() < 16


@pytest.mark.slow
def test_portraits_are_understood(renderer):
    portraits = LivePortraits([(load_model("builtin"), 1.0)], renderer.size, seed=5)
    rows = range(12)
    photo = portraits.take(rows).float() / 127.5 - 1
    maps = portraits.normal_maps(rows, renderer.size)
    assert angles_between(renderer.normals(photo).normals, maps).mean() < 16
    codes = torch.nn.functional.normalize(renderer.identity(photo), dim=1).view(3, 4, -1)
    same = torch.einsum("pie,pje->pij", codes, codes)[:, ~torch.eye(4, dtype=torch.bool)].mean()
    other = torch.einsum("pie,qje->pqij", codes, codes)[~torch.eye(3, dtype=torch.bool)].mean()
    assert same > other + 0.2


def test_the_inverter_beats_the_mean_code(renderer):
    """G with V's code for its own picture comes nearer to that picture than G with the mean style."""
    model, size = load_model("builtin"), renderer.size
    generator = renderer.generator
    maps = normal_maps(GeometrySampler([(model, 1.0)], size).sample([2], 4), 8, generator.config.resolutions)
    torch.manual_seed(1)
    noise = generator.sample_noise(8)
    image = generator(maps, torch.randn(8, generator.config.z_dim), noise=noise).image
    found = generator(maps, renderer.inverter(image).z, noise=noise).image
    mean = generator(maps, w=generator.mapping.mean_w.expand(8, -1), noise=noise).image
    assert (found - image).abs().mean() < 0.75 * (mean - image).abs().mean()
