from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from garfast.errors import TrainingError
from garfast.networks.weights import load_weights
from garfast.train import landmarks as module
from garfast.train.landmarks import POINT_FLIP, CropSampler, LandmarkTask, LandmarkTraining
from garfast.train.loop import LoopConfig, train
from garfast.train.renders import Renders
from garfast.train.scenery import scenes
from tests.train.fake_renders import write_fake_renders
from tests.train.start_from import check_start_from

SMALL = LandmarkTraining(steps=6, batch=6, coarse_steps=3, coarse_size=32, size=48, background=4)


@pytest.fixture(scope="module")
def scenery() -> torch.Tensor:
    return scenes(0, 4, 96)


@pytest.fixture
def renders(tmp_path, monkeypatch) -> Renders:
    monkeypatch.setattr(module, "HELD_OUT", 16)
    return Renders(write_fake_renders(tmp_path / "renders", 40))


def test_the_flip_table_is_its_own_inverse_and_agrees_with_the_model(tiny_model):
    assert np.array_equal(POINT_FLIP[POINT_FLIP], np.arange(85))
    points = tiny_model.landmarks(tiny_model.evaluate())[0].numpy()
    mirrored = points[POINT_FLIP[:68]] * [-1, 1, 1]
    assert np.abs(mirrored - points).max() < 0.05 * np.ptp(points[:, 0])


def test_crops_carry_their_points_along(renders, scenery):
    sampler = CropSampler(renders, scenery)
    crops = sampler.held_out(torch.Generator().manual_seed(0), np.arange(8), 96, faults=False)
    # The disc's rim is where the points are (40 of 45 pixels): sample the picture there and a little outside of it.
    middle = crops.points.mean(1, keepdim=True)
    inside = torch.nn.functional.grid_sample(
        crops.images, (middle + 0.9 * (crops.points - middle))[:, None] * 2 - 1, align_corners=False
    )
    disc = crops.images[:, :, 48, 48]
    assert (inside - disc[:, :, None, None]).abs().mean() < 0.02
    assert crops.extent.min() > 0.5
    assert crops.extent.max() < 0.95


def test_training_crops_are_the_same_for_the_same_generator(renders, scenery):
    sampler = CropSampler(renders, scenery)
    one, two = (sampler.training(torch.Generator().manual_seed(5), 12, 48) for _ in range(2))
    assert torch.equal(one.images, two.images)
    assert torch.equal(one.points, two.points)
    assert one.images.shape == (12, 3, 48, 48)
    assert one.face.tolist() == [1.0] * 10 + [0.0] * 2
    assert one.images.min() >= -1
    assert one.images.max() <= 1


@pytest.mark.slow
def test_training_resumes_bit_by_bit(renders, scenery, tmp_path):
    def task() -> LandmarkTask:
        return LandmarkTask(SMALL, renders, scenery=scenery)

    config = LoopConfig(tmp_path / "a", 6, log_every=1, evaluate_every=3, checkpoint_every=3)
    whole = task()
    train(whole, config, progress=False)
    half = replace(config, out=tmp_path / "b", steps=3)
    train(task(), half, progress=False)
    again = task()
    train(again, replace(half, steps=6), progress=False)
    for name, value in whole.average.state.items():
        assert torch.equal(value, again.average.state[name]), name
    again.export(tmp_path / "w.safetensors", {"steps": 6})
    settings, state = load_weights(tmp_path / "w.safetensors", kind="landmarks")
    assert settings["size"] == 48
    assert all(value.isfinite().all() for value in state.values())


def test_too_few_renders_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="more than 518 are needed"):
        LandmarkTask(SMALL, Renders(write_fake_renders(tmp_path, 3)))
    with pytest.raises(TrainingError, match="holds no rendered faces"):
        Renders(tmp_path / "none")


@pytest.mark.parametrize("muon", [False, True])
def test_a_training_begins_with_the_weights_of_another(renders, scenery, tmp_path, muon):
    settings = replace(SMALL, muon=muon)
    first = LandmarkTask(settings, renders, scenery=scenery)
    assert np.isfinite(first.step(0)["loss"])
    other = LandmarkTask(replace(settings, seed=1), renders, scenery=scenery)
    check_start_from(first, other, tmp_path / "w.safetensors", module.KIND)


def test_orthogonal_updates_have_a_rate_of_their_own(renders, scenery):
    task = LandmarkTask(replace(SMALL, muon=True, rate=0.012), renders, scenery=scenery)
    assert sorted({group["rate"] for group in task.optimizer.param_groups}) == pytest.approx([0.002, 0.012])
    task.step(2)
    assert all(group["lr"] < group["rate"] for group in task.optimizer.param_groups)  # warming up
