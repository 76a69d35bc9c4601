"""Shards streamed into a training: each sample once an epoch, whoever reads."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from garfast.errors import ArgumentError, OutputError
from garfast.synth import ShardedFaces
from garfast.synth.shards import PARTS
from garfast.synth.writer import DatasetPlan, write_dataset

COUNT = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    write_dataset(DatasetPlan(count=COUNT, models=(("builtin", 1.0),), size=64, shard_size=2, seed=3), path)
    return path


def order(faces: ShardedFaces) -> list[int]:
    return [sample["index"] for sample in faces]


def test_batches_are_stacked_tensors(folder):
    batch = next(iter(DataLoader(ShardedFaces(folder), batch_size=4)))
    assert set(batch) == set(PARTS)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (4, 64, 64, 3)
    assert batch["normal_map"].shape == (4, 3, 64, 64)
    assert batch["landmarks68"].shape == (4, 68, 2)
    assert batch["index"].tolist() == [0, 1, 2, 3]


def test_workers_share_the_samples_out(folder):
    loader = DataLoader(ShardedFaces(folder, ["index"]), batch_size=None, num_workers=2)
    assert sorted(sample["index"] for sample in loader) == list(range(COUNT))


def test_processes_share_the_samples_out(folder, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    seen = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        seen.append(order(ShardedFaces(folder, shuffle=2)))
    assert sorted(index for part in seen for index in part) == list(range(COUNT))
    assert all(seen)


def test_the_order_depends_on_seed_and_epoch_alone(folder):
    assert order(ShardedFaces(folder)) == list(range(COUNT))
    faces = ShardedFaces(folder, shuffle=4, seed=1)
    first = order(faces)
    assert sorted(first) == list(range(COUNT))
    assert first == order(ShardedFaces(folder, shuffle=4, seed=1)) != list(range(COUNT))
    faces.set_epoch(1)
    assert order(faces) != first


def test_all_parts_come_with_the_camera(folder):
    sample = next(iter(ShardedFaces(folder, None)))
    assert sample["camera"]["projection"] in ("pinhole", "orthographic")
    assert isinstance(sample["shape"], torch.Tensor)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(OutputError, match="holds no shards"):
        ShardedFaces(tmp_path)
    with pytest.raises(ArgumentError, match="shuffle must not be negative, not -1"):
        ShardedFaces(folder, shuffle=-1)
    with pytest.raises(ArgumentError, match="no part 'depth'"):
        next(iter(ShardedFaces(folder, ["depth"])))
