"""Several processes that train one model, as ``torchrun`` starts them; everything also works in a single process.

A step's joint batch consists of parts: those that one process works through one after the other (accumulation), times
the processes. Random numbers depend on the step and the number of the part alone and gradients are averaged, so the
gradients of W processes are those of a single one with W times as many parts. (But for the path length's, which is
penalised on one part in each process; and the mean style moves by the parts' average rather than part by part.)
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as dist

from garfast.devices import find_device
from garfast.errors import ArgumentError, TrainingError

_BUCKET = 1 << 25
"""Elements that are reduced in one go: fewer messages, and a bounded copy."""


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _several() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if _several() else 1


def is_first() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


@dataclass(frozen=True)
class Crew:
    """What the training loop asks of the processes (see ``garfast.train.loop.Crew``)."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return is_first()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return any_of(flag)

    def wait(self) -> None:
        """Until all processes have come here."""
        barrier()


@contextmanager
def processes(device: str = "auto", *, minutes: float = 30) -> Iterator[torch.device]:
    """Join the other processes if ``torchrun`` started this one, for as long as the block lasts.

    Args:
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'. With several processes 'auto' and 'cuda' mean the GPU whose number is
            LOCAL_RANK.
        minutes: after which a process that waits for another one gives up.

    Yields:
        The device to train on. NCCL joins GPUs, gloo CPUs.

    Raises:
        ArgumentError: the device is none of these, or this machine has no such GPU.
        TrainingError: the environment of ``torchrun`` is incomplete, or the processes cannot be joined.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    chosen = _device(device, several)
    if not several:
        yield chosen
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise TrainingError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} but {missing[0]} is not set: start the processes with torchrun"
        )
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(minutes=minutes))
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the training's processes cannot be joined: {str(error).splitlines()[0]}") from error
    try:
        yield chosen
    finally:
        if chosen.type == "cpu":
            # With PyTorch 2.6 gloo's thread may still need the interpreter, to let go of the last tensor. Destroying
            # the group keeps it until that thread has ended: neither would ever end.
            time.sleep(0.2)
        dist.destroy_process_group()


def joint_size(batch: int) -> int:
    """Size of the joint batch of which each process has ``batch`` samples."""
    return batch * world()


@torch.no_grad()
def average(tensor: Tensor) -> Tensor:
    """Replace a tensor by its mean over the processes, in place; it must have the same shape in all of them."""
    return total(tensor).div_(world()) if _several() else tensor


@torch.no_grad()
def total(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over the processes, in place."""
    if _several():
        dist.all_reduce(tensor)
    return tensor


def average_scalars(scalars: dict[str, float]) -> dict[str, float]:
    """Means over the processes of named numbers; one that a process lacks counts as 0 there."""
    if not _several():
        return scalars
    everyone: list[dict[str, float] | None] = [None] * world()
    dist.all_gather_object(everyone, scalars)
    found = [one for one in everyone if one is not None]
    names = dict.fromkeys(name for one in found for name in one)
    return {name: sum(one.get(name, 0.0) for one in found) / len(found) for name in names}


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients of parameters by their means over the processes.

    With losses that are means over each process's samples these are the gradients of the joint batch. Called once
    after the last backward of a step, it serves accumulated gradients and second derivatives alike, where the hooks of
    DistributedDataParallel would not. A parameter without a gradient in some of the processes counts as 0 there.
    """
    if not _several():
        return
    parameters = list(parameters)
    if not parameters:
        return
    device = parameters[0].device
    has = total(
        torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.int32, device=device)
    )
    gradients = []
    for parameter, count in zip(parameters, has.tolist(), strict=True):
        if count:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = average(torch.cat([gradient.reshape(-1) for gradient in bucket]))
        for gradient, mean in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(mean.view_as(gradient))


@torch.no_grad()
def same_start(module: nn.Module) -> None:
    """Give every process the first one's parameters and buffers."""
    if _several():
        for value in module.state_dict().values():
            dist.broadcast(value, 0)


def any_of(flag: bool) -> bool:
    """Whether a flag is set in any process; all must ask."""
    if not _several():
        return flag
    value = torch.tensor(float(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return bool(value.item())


def barrier() -> None:
    """Wait until all processes have come here."""
    any_of(False)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _device(name: str, several: bool) -> torch.device:
    device = find_device(name)
    if device.type == "cpu" or device.index is not None:
        return device
    number = int(os.environ.get("LOCAL_RANK", "0")) if several else 0
    if number >= torch.cuda.device_count():
        raise ArgumentError(
            f"there is no GPU {number} on this machine, which has {torch.cuda.device_count()}: "
            "start as many processes as there are GPUs, or use cpu"
        )
    return torch.device("cuda", number)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > _BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket
