from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from garfast.errors import TrainingError, WeightsFileError
from garfast.networks.normal_estimator import NormalEstimate, NormalEstimatorConfig
from garfast.networks.weights import load_weights
from garfast.train import normals as module
from garfast.train.loop import LoopConfig, train
from garfast.train.normals import (
    NormalTask,
    NormalTraining,
    Views,
    ViewSampler,
    evaluate_normals,
    normal_loss,
)
from tests.train.fake_portraits import FakePortraits
from tests.train.start_from import check_start_from

SMALL = NormalTraining(steps=6, batch=4, size=64)
NARROW = NormalEstimatorConfig(widths=(8, 8, 8), depth=1)


@pytest.fixture
def portraits(monkeypatch) -> FakePortraits:
    monkeypatch.setattr(module, "HELD_OUT", 8)
    return FakePortraits(40)


def test_loss_of_known_estimates():
    true = torch.zeros(1, 3, 2, 2)
    true[:, 2, 0] = 1
    mask = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    wrong = torch.zeros(1, 3, 2, 2)
    wrong[:, 0] = 1
    parts = normal_loss(NormalEstimate(wrong, torch.zeros(1, 1, 2, 2)), Views(true, true, mask), 0.5)
    # Unit vectors at a right angle, the distance rounded off at 0.02; even odds everywhere.
    right = math.sqrt(2 + 0.02**2) - 0.02
    assert float(parts["normals"]) == pytest.approx(right)
    assert float(parts["mask"]) == pytest.approx(math.log(2))
    assert float(parts["loss"]) == pytest.approx(right + 0.5 * math.log(2))


def test_loss_of_a_right_estimate_is_nothing_and_has_a_gradient():
    true = torch.zeros(1, 3, 2, 2)
    true[:, 2] = 1
    mask = torch.ones(1, 1, 2, 2)
    estimate = true.clone().requires_grad_()
    parts = normal_loss(NormalEstimate(estimate, 50 * mask), Views(true, true, mask), 0.5)
    parts["loss"].backward()
    assert float(parts["loss"].detach()) == pytest.approx(0, abs=1e-6)
    assert torch.equal(estimate.grad, torch.zeros_like(true))


def test_plain_views_are_the_portraits_mirrored_or_not(portraits):
    rows = torch.randint(8, 40, (6,), generator=torch.Generator().manual_seed(5)).numpy()
    views = ViewSampler(portraits).training(torch.Generator().manual_seed(5), 6, 64, plain=1.0)
    true = portraits.normal_maps(rows, 64)
    across = true.flip(3) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    error = [(views.normals - maps).square().sum((1, 2, 3)) for maps in (true, across)]
    # Remembered in steps of 1/127.
    assert (torch.minimum(*error) < 1e-4 * views.mask.sum((1, 2, 3))).all()


def test_views_are_the_same_for_the_same_generator(portraits):
    sampler = ViewSampler(portraits)
    one, two = (sampler.training(torch.Generator().manual_seed(5), 6, 64) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)
    assert one.images.min() >= -1
    assert one.images.max() <= 1
    torch.testing.assert_close(one.normals.norm(dim=1, keepdim=True), one.mask)


def test_a_perfect_estimate_has_no_error(portraits):
    class Oracle(torch.nn.Module):
        rows = iter(np.array_split(np.arange(8), 1))

        def forward(self, images: torch.Tensor) -> NormalEstimate:
            maps = portraits.normal_maps(next(self.rows), images.shape[-1])
            mask = maps.norm(dim=1, keepdim=True)
            return NormalEstimate(maps, mask - 0.5)

    figures = evaluate_normals(Oracle(), ViewSampler(portraits), 64)
    assert figures["degrees"] < 0.05
    assert figures["overlap"] == 1


@pytest.mark.slow
def test_training_resumes_bit_by_bit(portraits, tmp_path):
    def task() -> NormalTask:
        return NormalTask(SMALL, portraits, NARROW)

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
    config, _ = load_weights(tmp_path / "w.safetensors", kind="normals")
    assert NormalEstimatorConfig.from_dict(config) == replace(NARROW, size=64)
    figures = again.evaluate(6)
    assert set(figures) == {"degrees", "median", "overlap"}


def test_a_resumed_training_has_the_rate_it_is_given_now(portraits):
    first = NormalTask(SMALL, portraits, NARROW)
    first.step(0)
    slower = NormalTask(replace(SMALL, rate=0.1 * SMALL.rate), portraits, NARROW)
    slower.load_state_dict(first.state_dict())
    rates = {group["rate"] for group in slower.optimizer.param_groups}
    assert rates == {0.1 * SMALL.rate, SMALL.end_rate}


def test_too_few_portraits_are_refused():
    with pytest.raises(TrainingError, match="more than 1034 are needed"):
        NormalTask(NormalTraining(), FakePortraits(1030, 8))


def test_a_training_begins_with_the_weights_of_another(portraits, tmp_path):
    first = NormalTask(SMALL, portraits, NARROW)
    first.step(0)
    other = NormalTask(replace(SMALL, seed=1), portraits, NARROW)
    check_start_from(first, other, tmp_path / "normals.safetensors", module.KIND)
    wider = NormalTask(SMALL, portraits, replace(NARROW, widths=(8, 8, 16)))
    with pytest.raises(WeightsFileError, match="does not fit"):
        wider.start_from(tmp_path / "normals.safetensors", module.KIND)


def test_blocks_that_the_first_weights_lack_start_as_identities(portraits, tmp_path):
    path = tmp_path / "normals.safetensors"
    first = NormalTask(SMALL, portraits, NARROW)
    first.step(0)
    first.export(path, {})
    deeper = NormalTask(SMALL, portraits, replace(NARROW, depth=3, fine_depth=1))
    deeper.start_from(path, module.KIND)
    shallow = NormalTask(SMALL, portraits, NARROW)
    shallow.start_from(path, module.KIND)
    assert len(deeper.network.bottom) == 3
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected, found = shallow.averaged_network()(image), deeper.averaged_network()(image)
    assert torch.equal(found.normals, expected.normals)
    assert torch.equal(found.mask_logits, expected.mask_logits)
    deeper.step(0)
    blocks = [*deeper.network.bottom, *(block for blocks in deeper.network.refiners for block in blocks)]
    assert len(blocks) == 3 + 2
    assert all((block.norm.weight != 0).any() for block in blocks)
    deeper.export(path, {})
    with pytest.raises(WeightsFileError, match="does not fit"):
        shallow.start_from(path, module.KIND)
