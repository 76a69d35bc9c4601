"""Streams the shards that ``garfast synth`` writes into a training."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from garfast.errors import ArgumentError, OutputError
from garfast.synth.writer import read_shard

PARTS = ("image", "normal_map", "mask", "landmarks68", "landmarks68_contour", "visibility", "index")
"""What has the same shape in every sample of a folder, whatever the face model and the camera: a DataLoader can stack
it."""


class ShardedFaces(IterableDataset):
    """The samples of a folder of shards, for a :class:`torch.utils.data.DataLoader`.

    Every process of a distributed training and every worker of its DataLoader reads shards of its own, so an epoch sees
    each sample once; where the shards do not divide evenly, some processes see more samples than others.

    Args:
        folder: what ``garfast synth -o`` filled.
        parts: which parts of a sample (see ``docs/synthetic.md``) to give, arrays as tensors of their own type; all of
            them, with the camera as a dictionary, where None.
        shuffle: samples that are mixed at a time; the order of the shards changes with the epoch as well. 0 keeps the
            order in which they were written.
        seed: of the order.

    Raises:
        OutputError: the folder holds no shards, or, when it is read, a shard is damaged.
        ArgumentError: ``shuffle`` is negative, or, when it is read, a part is not in the samples.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        parts: Sequence[str] | None = PARTS,
        *,
        shuffle: int = 0,
        seed: int = 0,
    ) -> None:
        self.paths = sorted(Path(folder).glob("*.tar"))
        if not self.paths:
            raise OutputError(f"{folder} holds no shards: write some with `garfast synth -n N -o {folder}`")
        if shuffle < 0:
            raise ArgumentError(f"ShardedFaces: shuffle must not be negative, not {shuffle}")
        self.parts = None if parts is None else tuple(parts)
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Another order; call it before an epoch's iteration begins."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        paths = self.paths
        if self.shuffle:
            paths = [paths[k] for k in np.random.default_rng([self.seed, self.epoch]).permutation(len(paths))]
        reader, readers = _place()
        samples: Iterator[dict[str, Any]] = (sample for path in paths[reader::readers] for sample in read_shard(path))
        if self.shuffle:
            samples = _mixed(samples, self.shuffle, np.random.default_rng([self.seed, self.epoch, reader]))
        for sample in samples:
            yield self._chosen(sample)

    def _chosen(self, sample: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in self.parts or () if name not in sample]
        if missing:
            raise ArgumentError(f"ShardedFaces: there is no part '{missing[0]}' in these samples: {', '.join(sample)}")
        return {
            name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
            for name, value in sample.items()
            if self.parts is None or name in self.parts
        }


def _place() -> tuple[int, int]:
    """Which reader this is, and of how many: workers of all processes."""
    rank, world = 0, 1
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    worker = get_worker_info()
    if worker is None:
        return rank, world
    return rank * worker.num_workers + worker.id, world * worker.num_workers


def _mixed(samples: Iterator[dict[str, Any]], size: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The same samples in another order, ``size`` of them in memory at a time."""
    waiting: list[dict[str, Any]] = []
    for sample in samples:
        if len(waiting) < size:
            waiting.append(sample)
            continue
        k = int(rng.integers(size))
        yield waiting[k]
        waiting[k] = sample
    yield from (waiting[k] for k in rng.permutation(len(waiting)))
