"""Starts a training from the networks of another one, of the same size or of half the size."""

from __future__ import annotations

import math
import os
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from garfast.errors import TrainingError
from garfast.networks.renderer import load_renderer

if TYPE_CHECKING:
    from garfast.train.gar.task import GarTask

_OLD = 1_000_000  # steps; averages that are taken over whole count as old ones, which a first step hardly moves


def start_from(task: GarTask, origin: str | os.PathLike[str]) -> int:
    """Put the networks of another run, or finished ones, into a fresh task.

    A run at half the size gives all blocks that both have; the new finest block of G, and of D and V beside it, keeps
    its first weights. Optimisers start anew, and so does D where finished weights are taken, which are G's and V's.

    Args:
        task: takes the networks; nothing of it may have been trained yet.
        origin: checkpoint.pt of the other run, or a folder of weights that ``load_renderer`` reads.

    Returns:
        How many tensors were taken.

    Raises:
        TrainingError: the file is no such checkpoint, or nothing in it fits.
        WeightsFileError: the folder holds no renderer, or a damaged one.
    """
    path = Path(origin)
    state = _finished(path) if path.is_dir() else _checkpoint(path)
    generator = state["generator"]
    blocks = 1 + max(int(name.split(".")[1]) for name in generator if name.startswith("blocks."))
    extra = len(task.settings.generator.resolutions) - blocks
    if extra not in (0, 1):
        raise TrainingError(
            f"{path} holds a generator of {2 ** (blocks + 1)} pixels: the new one must be as large or twice as large, "
            f"not {task.settings.generator.size}"
        )
    taken = _take(task.generator, generator)
    # A projected adversary's networks belong to feature maps of certain sizes.
    if state.get("discriminator") is not None and not (extra and task.settings.projected):
        taken += _take(task.discriminator, _shift(state["discriminator"], r"blocks\.(\d+)", extra, extra > 0))
    if task.inverter is not None and state.get("inverter") is not None:
        names = r"(?:layers|noise_heads)\.(\d+)"
        inverter = _shift(_shift(state["inverter"], names, 2 * extra, extra > 0), r"downs\.(\d+)", extra, False)
        taken += _take(task.inverter, _wider(inverter, task.inverter))
        task.inverter_average.state = _copy(task.inverter)  # type: ignore[union-attr]
    task.average.state = _copy(task.generator)
    for name, value in state["average"].items():
        own = task.average.state.get(name)
        if own is not None and own.shape == value.shape:
            own.copy_(value)
    if not extra:
        task.average.age = _OLD
        if state.get("path_length") is not None:
            task.path_length.load_state_dict(state["path_length"])
    if taken == 0:
        raise TrainingError(f"nothing in {path} fits the networks of this training: use a preset with the same widths")
    return taken


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)["task"]
        if not (isinstance(state["generator"], dict) and isinstance(state["average"], dict)):
            raise TypeError
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(f"{path} is not the checkpoint of a renderer's training") from error
    return state


def _finished(folder: Path) -> dict[str, Any]:
    renderer = load_renderer(folder)
    generator = renderer.generator.state_dict()
    inverter = None if renderer.inverter is None else renderer.inverter.state_dict()
    return {"generator": generator, "average": generator, "inverter": inverter}


def _shift(state: dict[str, Tensor], pattern: str, by: int, drop_input: bool) -> dict[str, Tensor]:
    """Networks that run from fine to coarse get their new layers in front: renumber the old ones."""
    out = {}
    for name, value in state.items():
        if drop_input and name.startswith("from_rgb."):
            continue
        found = re.match(pattern, name)
        if found:
            start, end = found.span(1)
            name = f"{name[:start]}{int(found.group(1)) + by}{name[end:]}"
        out[name] = value
    return out


def _wider(state: dict[str, Tensor], inverter: nn.Module) -> dict[str, Tensor]:
    """V's first dense layer gets inputs for the new features, in front; their weights start at 0."""
    name = "mlp.0.weight"
    old, own = state[name], inverter.state_dict()[name]
    if old.shape == own.shape or old.shape[1] > own.shape[1]:
        return state
    padded = torch.zeros_like(own)
    # The layer divides by the root of its inputs' number, which has grown.
    padded[:, own.shape[1] - old.shape[1] :] = old * math.sqrt(own.shape[1] / old.shape[1])
    return {**state, name: padded}


def _take(network: nn.Module, state: dict[str, Tensor]) -> int:
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    network.load_state_dict({**own, **fitting})
    return len(fitting)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
