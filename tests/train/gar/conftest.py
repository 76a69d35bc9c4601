"""A renderer small enough to train a step in a fraction of a second, with teachers that nobody trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from garfast.networks.discriminator import DiscriminatorConfig
from garfast.networks.generator import GeneratorConfig
from garfast.networks.landmark_net import LandmarkNet, LandmarkNetConfig
from garfast.networks.normal_estimator import NormalEstimator, NormalEstimatorConfig
from garfast.networks.perceptual import PerceptualNet
from garfast.train.gar.presets import PRESETS, GarTraining, LossWeights
from garfast.train.gar.task import GarTask, Teachers
from garfast.train.portraits import Geometry
from tests.tiny_face import make_tiny_model


class FakePortraits:
    """Flat pictures of random colour, with geometry from the prior."""

    size = 16

    def __init__(self, sampler, count: int = 24) -> None:
        self.count, self.sampler = count, sampler

    def take(self, rows):
        colours = torch.randint(0, 256, (self.count, 3, 1, 1), generator=torch.Generator().manual_seed(1))
        return colours[torch.as_tensor(rows)].expand(-1, -1, self.size, self.size).to(torch.uint8)

    def geometry(self, rows) -> list[Geometry]:
        groups = []
        for place, row in enumerate(rows):
            for group in self.sampler.sample([7, int(row)], 1, 1):
                groups.append(group._replace(rows=torch.tensor([place])))
        return groups


def tiny_settings(**changes) -> GarTraining:
    base = replace(
        PRESETS["synth-128"],
        generator=GeneratorConfig(
            size=16, z_dim=8, style_dim=8, mapping_layers=2, channel_base=64, channel_max=8, nim_channels=4
        ),
        discriminator=DiscriminatorConfig(size=16, channel_base=64, channel_max=8),
        weights=LossWeights(identity=0, perceptual=0, reconstruction=5, spread=0.1, latent=0.5, r1=1, path_length=1),
        steps=100,
        batch=8,
        paired=4,
        warmup=0,
        r1_every=2,
        path_length_every=2,
        normals_size=16,
        landmark_size=32,
        bfloat16=False,
    )
    return replace(base, **changes)


def make_task(settings: GarTraining | None = None, *, perceptual: PerceptualNet | None = None, **options) -> GarTask:
    settings = settings or tiny_settings()
    torch.manual_seed(5)
    teachers = Teachers(
        normals=NormalEstimator(NormalEstimatorConfig(widths=(8, 8), depth=1)),
        landmarks=LandmarkNet(LandmarkNetConfig(size=32, widths=(4, 8, 8, 8))),
        perceptual=perceptual,
    )
    task = GarTask(
        settings, FakePortraits(None), [(make_tiny_model(), 1.0)], teachers, portraits=FakePortraits(None), **options
    )
    task.photos.sampler = task.portraits.sampler = task.sampler
    return task


@pytest.fixture
def task() -> GarTask:
    return make_task()
