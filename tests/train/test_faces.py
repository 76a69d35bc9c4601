from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from garfast.networks.face_finder import STRIDE, FaceFinderConfig, FinderOutput
from garfast.train import faces as module
from garfast.train.faces import FaceTask, FaceTraining, Scenes, SceneSampler, finder_loss
from garfast.train.renders import Renders
from garfast.train.scenery import pictures, scenes
from tests.train.fake_renders import write_fake_renders
from tests.train.start_from import check_start_from


@pytest.fixture
def renders(tmp_path, monkeypatch) -> Renders:
    monkeypatch.setattr(module, "HELD_OUT", 16)
    return Renders(write_fake_renders(tmp_path / "renders", 40))


def test_scenes_are_repeatable_and_varied():
    one, two = scenes(3, 6, 40), scenes(3, 6, 40)
    assert torch.equal(one, two)
    assert one.shape == (6, 3, 40, 40)
    assert one.dtype == torch.uint8
    assert len({tuple(s.flatten().tolist()) for s in one}) == 6
    assert len(pictures()) > 10


def test_people_stand_where_the_boxes_say(renders):
    sampler = SceneSampler(renders, scenes(0, 4, 160), FaceFinderConfig())
    # Without the camera's faults: the middle of each box shows the disc's colour.
    sample = sampler.sample(torch.Generator().manual_seed(2), 9, 160, 3)
    assert sample.images.shape == (9, 3, 160, 160)
    assert len(sample.boxes) >= 4
    assert not (sample.boxes[:, 3] % 3 == 2).any()
    for x, y, side, k in sample.boxes.tolist():
        half = 0.3 * side
        part = sample.images[int(k), :, int(max(0, y - half)) : int(y + half), int(max(0, x - half)) : int(x + half)]
        assert part.std((1, 2)).max() < 0.35


def test_a_perfect_answer_costs_next_to_nothing():
    config = FaceFinderConfig()
    boxes = torch.tensor([[36.0, 28.0, 24.0, 0.0]])
    score = torch.full((1, 8, 8), -12.0)
    score[0, 3, 4] = 12
    y = (torch.arange(8.0)[:, None] + 0.5).expand(8, 8) * STRIDE
    x = (torch.arange(8.0)[None] + 0.5).expand(8, 8) * STRIDE
    offset = torch.stack([36 - x, 28 - y])[None]
    out = FinderOutput(score, offset, torch.full((1, 8, 8), 24.0))
    parts = finder_loss(out, Scenes(torch.zeros(1, 3, 64, 64), boxes), config)
    assert parts["loss"] < 1e-3
    wrong = finder_loss(out._replace(score=-score), Scenes(torch.zeros(1, 3, 64, 64), boxes), config)
    assert wrong["score"] > 5


def test_a_step_lowers_the_loss_and_is_repeatable(renders):
    settings = FaceTraining(steps=4, batch=3, size=64, scene_size=64)
    scenery = scenes(0, 4, 64)
    losses = [[FaceTask(settings, renders, scenery=scenery).step(0)["loss"]] for _ in range(2)]
    assert losses[0] == losses[1]


def test_a_run_can_begin_with_earlier_weights(renders, tmp_path):
    settings = FaceTraining(steps=4, batch=3, size=64, scene_size=64)
    scenery = scenes(0, 4, 64)
    first = FaceTask(settings, renders, scenery=scenery)
    first.step(0)
    other = FaceTask(replace(settings, seed=5), renders, scenery=scenery)
    check_start_from(first, other, tmp_path / "faces.safetensors", module.KIND)
