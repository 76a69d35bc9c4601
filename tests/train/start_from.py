"""What every training does that begins with the weights of another."""

from __future__ import annotations

from pathlib import Path

import torch

from garfast.networks.weights import load_weights
from garfast.train.averaged_task import AveragedTask


def check_start_from(first: AveragedTask, other: AveragedTask, path: Path, kind: str) -> None:
    """``other`` begins with the weights that ``first`` exports to ``path``, in the network and in its average."""
    first.export(path, {})
    other.start_from(path, kind)
    stored = load_weights(path, kind=kind)[1]
    for state in (other.network.state_dict(), other.average.state):
        assert all(torch.equal(state[name], value) for name, value in stored.items())
