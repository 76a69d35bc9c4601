"""Portraits: geometry, picture and landmarks agree, and a stopped drawing goes on with the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from garfast.errors import TrainingError
from garfast.landmarks.alignment import TEMPLATE
from garfast.morphable import load_model
from garfast.train.identity import PeopleSampler
from garfast.train.normals import ViewSampler
from garfast.train.portraits import SYNTH, LivePortraits, Portraits, draw_portraits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("portraits")
    draw_portraits(path, 8, 64, 3, [(load_model("builtin"), 1.0)], progress=False)
    return path


def test_landmarks_lie_near_the_template_and_on_the_geometry(folder):
    portraits = Portraits(folder)
    rows = range(portraits.count)
    landmarks = portraits.landmarks(rows)
    assert portraits.take(rows).shape == (8, 3, 64, 64)
    assert (landmarks - 64 * torch.tensor(TEMPLATE)).norm(dim=-1).mean() < 0.12 * 64
    for group in portraits.geometry(rows):
        points = group.model.landmarks(group.vertices())
        flat = points[..., :2] / -points[..., 2:] if group.projection == "pinhole" else points[..., :2]
        ndc = flat * group.camera[:, None, :2] + group.camera[:, None, 2:]
        pixels = (ndc * torch.tensor([1.0, -1.0]) + 1) * 32
        torch.testing.assert_close(pixels, landmarks[group.rows], atol=0.1, rtol=0)


def test_normal_maps_cover_the_landmarks(folder):
    portraits = Portraits(folder)
    coarse, fine = portraits.normal_maps(range(8), [16, 64])
    assert coarse.shape == (8, 3, 16, 16)
    length = fine.norm(dim=1)
    assert torch.all((length < 1e-6) | ((length - 1).abs() < 1e-4))
    nose = portraits.landmarks(range(8))[:, 33].long()
    assert torch.all(length[torch.arange(8), nose[:, 1], nose[:, 0]] > 0)


def test_four_pictures_of_each_person(folder):
    portraits = Portraits(folder)
    assert portraits.person(range(8)).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    (first,) = {tuple(g.shape[0].tolist()) for g in portraits.geometry([0])}
    for row in range(1, SYNTH.photos_per_person):
        (group,) = portraits.geometry([row])
        assert tuple(group.shape[0].tolist()) == first
        assert not torch.equal(group.exp, portraits.geometry([0])[0].exp)


def test_a_stopped_drawing_goes_on(folder, tmp_path):
    model = load_model("builtin")
    draw_portraits(tmp_path, 8, 64, 3, [(model, 1.0)], progress=False)
    (tmp_path / "count.txt").write_text("5")
    for name in ("images", "pose"):
        array = np.load(tmp_path / f"{name}.npy", mmap_mode="r+")
        array[5:] = 0
    draw_portraits(tmp_path, 8, 64, 3, [(model, 1.0)], progress=False)
    for name in ("images", "pose", "camera"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), np.load(folder / f"{name}.npy"))
    with pytest.raises(TrainingError):
        draw_portraits(tmp_path, 9, 64, 3, [(model, 1.0)], progress=False)


def test_no_portraits(tmp_path):
    with pytest.raises(TrainingError, match="holds no portraits"):
        Portraits(tmp_path)


def test_live_portraits_are_those_of_the_folder(folder):
    written, live = Portraits(folder), LivePortraits([(load_model("builtin"), 1.0)], 64, 3)
    rows = [5, 1, 5]
    assert torch.equal(live.take(rows), written.take(rows))
    torch.testing.assert_close(live.landmarks(rows), written.landmarks(rows))
    assert torch.equal(live.normal_maps(rows, 32), written.normal_maps(rows, 32))
    assert live.person(rows).tolist() == [1, 0, 1]


def test_trainings_take_portraits_that_are_drawn_on_the_fly(monkeypatch):
    live = LivePortraits([(load_model("builtin"), 1.0)], 64, 3)
    rng = torch.Generator().manual_seed(0)
    views = ViewSampler(live).training(rng, 4, 64, plain=0.5)
    assert views.images.shape == (4, 3, 64, 64)
    assert 0.1 < views.mask.mean() < 0.95
    monkeypatch.setattr(LivePortraits, "count", 5000)  # to list a million people takes a second
    sampler = PeopleSampler(live)
    people = sampler.training(rng, 4, 32)
    assert people.images.shape == (4, 3, 32, 32)
    assert people.person[0] == people.person[1] != people.person[2]
