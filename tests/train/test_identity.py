from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from garfast.errors import TrainingError
from garfast.networks.identity import IdentityConfig, load_identity
from garfast.networks.perceptual import load_perceptual
from garfast.train import identity as module
from garfast.train.identity import (
    IdentityTask,
    IdentityTraining,
    PeopleSampler,
    contrastive_loss,
    evaluate_identity,
    verification,
)
from garfast.train.loop import LoopConfig, train
from tests.train.fake_portraits import FakePortraits

SMALL = IdentityTraining(steps=6, batch=8, size=32, embedding=16)
NARROW = IdentityConfig(size=32, widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), embedding=16)


@pytest.fixture
def portraits(monkeypatch) -> FakePortraits:
    monkeypatch.setattr(module, "HELD_OUT", 16)
    return FakePortraits(56, 32)


def test_contrastive_loss_of_known_embeddings():
    embedding = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    loss = contrastive_loss(embedding, torch.tensor([3, 3, 5, 5]), 0.5)
    # Each picture: its partner has cosine 1, the two others 0.
    assert float(loss) == pytest.approx(math.log(1 + 2 * math.exp(-2)), rel=1e-5)
    same = contrastive_loss(torch.tensor([[1.0, 0.0]]).expand(4, -1), torch.tensor([0, 0, 1, 1]), 0.1)
    assert float(same) == pytest.approx(math.log(3), rel=1e-5)


def test_contrastive_loss_has_a_finite_gradient():
    embedding = torch.nn.functional.normalize(torch.randn(6, 4), dim=1).requires_grad_()
    contrastive_loss(embedding, torch.tensor([0, 0, 1, 1, 2, 2]), 0.1).backward()
    assert embedding.grad.isfinite().all()
    assert embedding.grad.abs().sum() > 0


def test_verification_of_known_embeddings():
    good = torch.eye(3).repeat_interleave(2, 0)
    figures = verification(good, [0, 0, 1, 1, 2, 2])
    assert figures == pytest.approx({"same": 1.0, "other": 0.0, "auc": 1.0, "eer": 0.0})
    figures = verification(torch.ones(6, 1), [0, 0, 1, 1, 2, 2])
    assert figures["auc"] == pytest.approx(0.5)
    assert figures["eer"] >= 0.5
    # Cosines 0.8 (same), 0.6 and 0 (others): one pair right of both.
    three = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    assert verification(three, [0, 0, 1])["auc"] == 1.0
    assert verification(three, [0, 1, 1])["auc"] == pytest.approx(0.5)


def test_pairs_show_one_person_each_and_no_one_held_out(portraits):
    sampler = PeopleSampler(portraits)
    batch = sampler.training(torch.Generator().manual_seed(1), 8, 32)
    assert batch.images.shape == (8, 3, 32, 32)
    assert torch.equal(batch.person[::2], batch.person[1::2])
    assert len(batch.person.unique()) == 4
    assert batch.person.min() >= 4
    assert torch.equal(batch.form[::2], batch.form[1::2])
    # The form is what the shape does to the neutral landmarks, in units of 4 mm.
    (group,) = portraits.geometry(batch.person[:1].numpy() * 4)
    moved = group.model.landmarks(group.model.evaluate(group.shape) - group.model.evaluate())
    torch.testing.assert_close(batch.form[0], moved.flatten() / 4, atol=1e-4, rtol=1e-4)
    again = sampler.training(torch.Generator().manual_seed(1), 8, 32)
    assert torch.equal(batch.images, again.images)
    assert torch.equal(batch.place, again.place)


def test_people_on_both_sides_of_the_split_are_left_out(monkeypatch):
    monkeypatch.setattr(module, "HELD_OUT", 10)
    assert PeopleSampler(FakePortraits(20, 32)).ranges == [(12, 16), (16, 20)]


@pytest.mark.slow
def test_training_resumes_bit_by_bit(portraits, tmp_path):
    def task() -> IdentityTask:
        return IdentityTask(SMALL, portraits, NARROW)

    config = LoopConfig(tmp_path / "a", 6, log_every=1, evaluate_every=3, checkpoint_every=3)
    whole = task()
    train(whole, config, progress=False)
    half = replace(config, out=tmp_path / "b", steps=3)
    train(task(), half, progress=False)
    again = task()
    train(again, replace(half, steps=6), progress=False)
    for name, value in whole.average.state.items():
        assert torch.equal(value, again.average.state[name]), name


def test_both_networks_are_exported(portraits, tmp_path):
    task = IdentityTask(SMALL, portraits, NARROW)
    task.export(tmp_path / "identity.safetensors", {"steps": 0})
    identity, perceptual = (
        load_identity(tmp_path / "identity.safetensors"),
        load_perceptual(tmp_path / "perceptual.safetensors"),
    )
    image = torch.rand(1, 3, 32, 32)
    for a, b in zip(identity.features(image), perceptual.backbone(image), strict=True):
        assert torch.equal(a, b)


def test_one_batch_can_be_learnt(portraits):
    settings = IdentityTraining(steps=100, batch=16, size=32, embedding=16, rate=0.25, bfloat16=False)
    task = IdentityTask(settings, portraits, NARROW)
    losses = [task.step(3) for _ in range(20)]
    for part in ("contrast", "form", "place"):
        assert losses[-1][part] < 0.75 * losses[0][part], part
    figures = evaluate_identity(task.averaged_network().identity, task.sampler, 32)
    assert set(figures) == {"same", "other", "auc", "eer"}


def test_portraits_that_do_not_do_are_refused():
    with pytest.raises(TrainingError, match="8 pixels a side: at least 64"):
        IdentityTask(IdentityTraining(), FakePortraits(1300, 8))
    with pytest.raises(TrainingError, match="show 4 people beside"):
        IdentityTask(IdentityTraining(size=16), FakePortraits(1040, 16))
